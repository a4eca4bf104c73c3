"""Many things done once each, by one process or many: items, their record, and engines that exist."""
