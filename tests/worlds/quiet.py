"""Models whose noise is none, so that trainings on different numbers of devices can be compared."""

from recrun.models.autoencoder import MultDAE, MultVAE
from recrun.models.ract import RaCT


def every_second(items_N):
    """In place of dropout: which interactions are kept depends on the item alone."""
    return items_N % 2 == 0


class QuietVAE(MultVAE):
    """The code is its mean."""

    def __init__(self, n_items, **keys):
        super().__init__(n_items, **keys)
        self.encoder.draw = every_second

    def reparameterize(self, mean_BL, logvar_BL):
        return mean_BL


class QuietDAE(MultDAE):
    """What is dropped is fixed."""

    def __init__(self, n_items, **keys):
        super().__init__(n_items, **keys)
        self.encoder.draw = every_second


class QuietRaCT(RaCT):
    """RaCT with a quiet actor."""

    def __init__(self, n_items, **keys):
        super().__init__(n_items, **keys)
        self.actor.encoder.draw = every_second
        self.actor.reparameterize = lambda mean_BL, logvar_BL: mean_BL
