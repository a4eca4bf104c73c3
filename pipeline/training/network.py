"""Where train.json of earlier bundles looks for the class; `plan --refresh` writes its present place."""

from pipeline.networks.dynunet import DeepSupervisionDynUNet as DeepSupervisionDynUNet
