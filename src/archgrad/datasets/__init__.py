"""Data sets: ``DATASETS[name](path, resize) -> ImageData``, of a text `TextData`.

Call `archgrad.datasets.loading.load`, which checks the name, turns `resize` into (H, W) and guesses
the kind of a bare path. An entry of one's own, ``"module:function"``, keeps the same signature:
``path: Path | None`` and ``resize: tuple[int, int] | None``.
"""

from archgrad.table import Entry, Table

_CIFAR = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images"

DATASETS = Table(
    "data set",
    {
        "digits": Entry(
            "archgrad.datasets.digits:digits",
            "1,797 handwritten digits, grey 8×8, ten classes; comes with scikit-learn, no files needed",
            "Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI)",
        ),
        "cifar10": Entry(
            "archgrad.datasets.cifar:cifar10",
            "60,000 colour photos 32×32, ten classes; parquet files or the official binary layout",
            _CIFAR,
        ),
        "cifar100": Entry(
            "archgrad.datasets.cifar:cifar100",
            "60,000 colour photos 32×32, a hundred classes; parquet files or the official binary layout",
            _CIFAR,
        ),
        "fashion-mnist": Entry(
            "archgrad.datasets.idx:fashion_mnist",
            "70,000 pictures of clothing, grey 28×28, ten classes; idx files, plain or gzip",
            "Xiao et al. 2017, Fashion-MNIST (arXiv 1708.07747)",
        ),
        "folder": Entry(
            "archgrad.datasets.folder:folder",
            "your own images: one sub-folder a class, or such folders inside train/ and test/",
        ),
        "npz": Entry(
            "archgrad.datasets.npz:npz",
            "your own arrays: train_images/train_labels (as MedMNIST) or x_train/y_train (as Keras)",
        ),
        "wikitext2": Entry(
            "archgrad.datasets.text:wikitext2",
            "2.1 million words of Wikipedia, 33,278 different ones; a text, for darts_rnn",
            "Merity et al. 2017, Pointer Sentinel Mixture Models (arXiv 1609.07843)",
        ),
        "ptb": Entry(
            "archgrad.datasets.text:ptb",
            "0.9 million words of the Wall Street Journal, 10,000 different ones; a text, for darts_rnn",
            "Marcus et al. 1993, Penn Treebank, as prepared by Mikolov et al. 2010",
        ),
        "text": Entry(
            "archgrad.datasets.text:text",
            "your own text: a folder with train.txt, valid.txt and test.txt, or one file",
        ),
    },
)
