"""Where train.json of earlier bundles looks for the class; `plan --refresh` writes its present place."""

from unet_pipeline.networks.dynunet import DeepSupervisionDynUNet as DeepSupervisionDynUNet
