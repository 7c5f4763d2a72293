"""Controllers: ``CONTROLLERS[name](**settings)`` turns what is learned, θ, into logits for every choice."""

from archgrad.table import Entry, Table

CONTROLLERS = Table(
    "controller",
    {
        "independent": Entry(
            "archgrad.controllers.independent:Independent",
            "θ is the logits: choices are independent of one another",
            "Liu et al. 2019, DARTS (arXiv 1806.09055), section 2.2",
        ),
        "lstm": Entry(
            "archgrad.controllers.lstm:LSTM",
            "an LSTM emits the choices one after another, each given those before it",
            "Pham et al. 2018, ENAS (arXiv 1802.03268), section 2",
        ),
    },
)
