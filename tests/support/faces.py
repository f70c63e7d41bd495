"""Cartoon faces with the labels Male and Smiling, laid out as CelebA or as a folder with labels.csv."""

import pathlib
import zipfile

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 178, 218
_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair"
    " Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male"
    " Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks"
    " Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace"
    " Wearing_Necktie Young"
)
ATTRIBUTES = tuple(_ATTRIBUTES.split())
_SKINS = ((255, 219, 190), (232, 184, 144), (190, 134, 92), (124, 80, 54))


def face(male: bool, smiling: bool, seed: int) -> Image.Image:
    """Draw a face; skin, background, hair and place come from the seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (WIDTH, HEIGHT), _colour(rng, 60, 240))
    draw = ImageDraw.Draw(image)
    skin, hair = _SKINS[rng.integers(len(_SKINS))], _colour(rng, 10, 110)
    x, y = WIDTH // 2 + int(rng.integers(-10, 11)), HEIGHT // 2 + int(rng.integers(-10, 11))
    if male:
        draw.ellipse((x - 50, y - 72, x + 50, y + 10), fill=hair)
    else:
        draw.rounded_rectangle((x - 64, y - 80, x + 64, y + 90), 50, fill=hair)
    draw.ellipse((x - 46, y - 56, x + 46, y + 66), fill=skin)
    for side in (-20, 20):
        draw.ellipse((x + side - 7, y - 18, x + side + 7, y - 8), fill="white")
        draw.ellipse((x + side - 3, y - 17, x + side + 3, y - 9), fill="black")
        draw.line((x + side - 11, y - 27, x + side + 11, y - 27), fill=hair, width=7 if male else 2)
    if smiling:
        draw.chord((x - 25, y + 10, x + 25, y + 50), 10, 170, fill="white", outline=(150, 30, 40), width=4)
    else:
        draw.arc((x - 22, y + 34, x + 22, y + 54), 200, 340, fill=(150, 30, 40), width=4)
    return image


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(low, high, 3))


def labels(n: int, seed: int) -> np.ndarray:
    """Return bits of Male and Smiling, [n, 2], the four classes in turn, mixed in every part of the split."""
    order = np.random.default_rng(seed).permutation(4)
    k = order[np.arange(n) % 4]
    return np.stack([k // 2, k % 2], axis=1).astype(np.uint8)


def parts(n: int) -> np.ndarray:
    """Return the split: of twenty pictures twelve are of part 0, four of part 1 and 2 each, all classes in each."""
    return np.array([0, 0, 0, 1, 2])[np.arange(n) // 4 % 5]


def write_celeba(folder: pathlib.Path, n: int, seed: int = 0, zipped: bool = False) -> np.ndarray:
    """Write the three official files, pictures in a folder or in the zip file; return bits of Male and Smiling."""
    bits = labels(n, seed)
    others = np.random.default_rng(seed).integers(0, 2, (n, len(ATTRIBUTES)))
    others[:, [ATTRIBUTES.index("Male"), ATTRIBUTES.index("Smiling")]] = bits
    names = [f"{i + 1:06d}.jpg" for i in range(n)]
    pictures = folder / "img_align_celeba"
    pictures.mkdir(parents=True)
    for i, name in enumerate(names):
        face(*map(bool, bits[i]), seed=1000 * seed + i).save(pictures / name, quality=90)
    rows = [f"{name} " + " ".join(f"{2 * v - 1:2d}" for v in row) for name, row in zip(names, others, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(n), " ".join(ATTRIBUTES) + " ", *rows]) + "\n")
    split = [f"{name} {part}" for name, part in zip(names, parts(n), strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(split) + "\n")
    if zipped:
        zip_pictures(pictures)
    return bits


def zip_pictures(pictures: pathlib.Path) -> pathlib.Path:
    """Move a folder of pictures into a zip file beside it."""
    archive = pictures.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        for picture in sorted(pictures.iterdir()):
            file.write(picture, f"{pictures.name}/{picture.name}")
            picture.unlink()
    pictures.rmdir()
    return archive


def write_folder(folder: pathlib.Path, n: int, seed: int = 0) -> np.ndarray:
    """Write pictures and labels.csv with the columns sex, smiling and split; return bits of sex and smiling."""
    bits = labels(n, seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,sex,smiling,split"]
    for i, (male, smiling) in enumerate(bits):
        face(bool(male), bool(smiling), seed=1000 * seed + i).save(folder / f"face_{i:04d}.jpg", quality=90)
        sex, split = ("female", "male")[male], ("train", "val", "test")[parts(n)[i]]
        lines.append(f"face_{i:04d}.jpg,{sex},{smiling},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return bits
