"""Image to image, judged by structural similarity (Wang et al. 2004)."""

from __future__ import annotations

from dtp_edge.training.objectives.base import Headline, Metric
from dtp_edge.training.objectives.image_to_image import EachImage, ImageToImage
from dtp_edge.training.objectives.torch_metric import torchmetrics

__all__ = ["OBJECTIVE", "StructuralSimilarity"]


class StructuralSimilarity(ImageToImage):
    """As `ImageToImage`, with SSIM as the headline."""

    name = "image-to-image-ssim"
    headline = Headline("SSIM", unit="", decimals=4)

    def metric(self) -> Metric:
        measure = torchmetrics().image.StructuralSimilarityIndexMeasure(
            data_range=self.data_range, reduction="none"
        )
        return EachImage(measure, self.data_range)


OBJECTIVE = StructuralSimilarity
