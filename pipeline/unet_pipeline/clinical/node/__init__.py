"""A node of a DICOM network: what comes, where it lies until its result is sent, and how that leaves."""
