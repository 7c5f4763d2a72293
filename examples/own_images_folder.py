"""A folder of pictures to search on: digits as PNG files, one sub-folder a class.

python examples/own_images_folder.py pictures
archgrad search --data folder --data-path pictures --run runs/pictures

With pictures of your own only the second line is needed.
"""

import sys
from pathlib import Path

from PIL import Image

from archgrad import load

if __name__ == "__main__":
    folder, digits = Path(sys.argv[1]), load("digits", resize=16)
    for i in range(len(digits.train)):
        place = folder / f"digit-{digits.train.labels[i]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.train.pixels[i, 0].numpy()).save(place / f"{i:04d}.png")
    print(f"{len(digits.train)} pictures of {len(digits.classes)} classes in {folder}")
