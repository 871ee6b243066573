"""Datasets of persons: what a split holds, drawn persons, and the readers of files."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import scipy.io
import tensorflow as tf

from tfthesis.data.joints import BODY_25, write_openpose
from tfthesis.data.part_maps import LIP, MaskFile, PoseFile
from tfthesis.data.person_images import BODY, JOINTS, People, PersonImages, open_people, person_names
from tfthesis.data.readers.clothing_co_parsing import CLASSES, divided_skin
from tfthesis.data.scenes.dolls import SLEEVES, draw_doll, sample_doll
from tfthesis.errors import UserError


def people(count=4, **changed):
    values = {
        "ids": [f"p{n}" for n in range(count)],
        "images": np.zeros((count, 6, 8, 3), np.uint8),
        "joints": np.ones((count, 18, 3), np.float32),
        "segments": np.zeros((count, 6, 8), np.uint8),
        "pairs": np.array([[0, 1], [2, 3]], np.int32),
        "labels": np.zeros(count, np.int32),
    }
    return People(**{**values, **changed})


def test_rows_take_their_pairs_along():
    taken = people(labels=np.arange(4, dtype=np.int32)).take([3, 0, 2])
    assert taken.ids == ["p3", "p0", "p2"] and taken.labels.tolist() == [3, 0, 2]
    # The pair 2, 3 is now rows 2 and 0; the other pair lost an image.
    assert taken.pairs.tolist() == [[2, 0]]
    assert taken.poses is None and taken.read("poses", 0) is None
    masks = np.arange(4)[:, None, None] > np.zeros((4, 6, 8))
    taken = people(masks=masks, heads=[MaskFile(n) for n in range(4)]).take([3, 0])
    assert taken.read("masks", 0).all() and not taken.read("masks", 1).any()
    assert taken.heads == [MaskFile(3), MaskFile(0)] and taken.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"joints": np.ones((4, 17, 3), np.float32)}, r"joints: expected finite numbers \[4, 18, 3\].*\[4, 17, 3\]"),
        ({"joints": np.full((4, 18, 3), np.nan, np.float32)}, "joints: expected finite numbers"),
        ({"pairs": np.zeros((3, 3), np.int32)}, r"pairs: expected two rows each, \[P, 2\], got \[3, 3\]"),
        ({"pairs": np.array([[1, 4]])}, r"two different images, rows 0 to 3, got \[1, 4\]"),
        ({"pairs": np.array([[-1, 2]])}, r"two different images, rows 0 to 3, got \[-1, 2\]"),
        ({"pairs": np.array([[2, 2]])}, r"two different images, rows 0 to 3, got \[2, 2\]"),
        ({"labels": None}, "expected labels and the names of their classes, or neither"),
        ({"labels": np.array([0, 1, 0, 2])}, "labels: expected 0 to 1, got 0 to 2"),
        ({"segments": np.zeros((4, 6, 7), np.uint8)}, r"of the size of the images, \[4, 6, 8\], got \[4, 6, 7\]"),
        ({"segments": np.full((4, 6, 8), 6, np.uint8)}, "expected labels 0 to 5 .background, head.*got 6"),
        (
            {"poses": np.zeros((4, 6, 8), np.uint8)},
            r"poses: expected uint8 \[N, H, W, 3\], got uint8 \[4, 6, 8\]",
        ),
        ({"masks": np.zeros((4, 6, 8), np.uint8)}, r"masks: expected bool \[N, H, W\], got uint8 \[4, 6, 8\]"),
        (
            {"heads": np.zeros((4, 6, 7), bool)},
            r"heads: expected maps of the size of the images, \[4, 6, 8\], got \[4, 6, 7\]",
        ),
        ({"heads": np.zeros((3, 6, 8), bool)}, "expected as many ids .* as labels as heads"),
        ({"ids": ["p0", "p1", "p2"]}, "expected as many ids as images as joints as segments as labels"),
    ],
)
def test_contradictions(changed, message):
    with pytest.raises(UserError, match=message):
        PersonImages("mine", {"train": people(**changed)}, ("a", "b"))


def test_a_dataset_may_lack_pairs_and_labels():
    alone = people(pairs=np.zeros((0, 2), np.int32), labels=None)
    dataset = PersonImages("mine", {"test": alone})
    assert dataset.counts() == {"test": 4}
    with pytest.raises(UserError, match="labels"):
        PersonImages("mine", {"test": people()})


def test_fingerprint_sees_every_part():
    def fingerprint(**changed):
        return PersonImages("mine", {"train": people(**changed)}, ("a", "b")).fingerprint()

    base = fingerprint()
    assert base == fingerprint()
    pixels, segments = np.zeros((4, 6, 8, 3), np.uint8), np.zeros((4, 6, 8), np.uint8)
    pixels[1, 2, 3], segments[1, 2, 3] = 1, 1
    others = [
        fingerprint(images=pixels),
        fingerprint(segments=segments),
        fingerprint(joints=np.full((4, 18, 3), 2, np.float32)),
        fingerprint(pairs=np.array([[0, 1]], np.int32)),
        fingerprint(labels=np.ones(4, np.int32)),
        fingerprint(ids=["p0", "p1", "p2", "x"]),
        fingerprint(poses=pixels),
        fingerprint(poses=pixels * 0),
        # The same values say other things of a person and of a head.
        fingerprint(masks=segments > 0),
        fingerprint(heads=segments > 0),
        fingerprint(masks=segments > 1),
    ]
    assert len({base, *others}) == 12


@pytest.fixture(scope="module")
def dolls():
    return open_people("paper_dolls", persons=(12, 2, 3), poses=3, size=48)


def test_dolls_are_pairs_of_one_person_in_other_poses(dolls):
    assert dolls.counts() == {"train": 36, "val": 6, "test": 9}
    train = dolls.split("train")
    assert train.pairs[:4].tolist() == [[0, 1], [0, 2], [1, 2], [3, 4]] and len(train.pairs) == 36
    for first, second in train.pairs.tolist():
        assert train.ids[first].rsplit("-", 1)[0] == train.ids[second].rsplit("-", 1)[0]
        assert train.labels[first] == train.labels[second]
        assert np.abs(train.joints[first] - train.joints[second])[:, :2].max() > 1
    again = open_people("paper_dolls", persons=(12, 2, 3), poses=3, size=48)
    assert again.fingerprint() == dolls.fingerprint()
    assert open_people("paper_dolls", persons=(12, 2, 3), poses=3, size=48, seed=1).fingerprint() != again.fingerprint()


def test_dolls_photo_joints_and_parts_agree(dolls):
    train = dolls.split("train")
    # A wrist lies at the end of a long sleeve, an ankle in trousers.
    parts = {"nose": ("head",), "right_eye": ("head",)}
    parts |= dict.fromkeys(("left_wrist", "right_wrist"), ("arms", "upper"))
    parts |= dict.fromkeys(("left_knee", "left_ankle", "right_ankle"), ("legs", "lower"))
    for row in range(len(train)):
        segments, joints = train.segment(row), train.joints[row]
        assert set(np.unique(segments)) == set(range(6))
        assert joints[:, :2].min() > 0 and joints[:, :2].max() < 48 and (joints[:, 2] == 1).all()
        # Every joint lies on the person, or within a pixel of it (ears and the ends of shoulders).
        columns, lines = np.floor(joints[:, :2]).astype(int).T
        near = [segments[y - 1 : y + 2, x - 1 : x + 2].any() for x, y in zip(columns, lines, strict=True)]
        assert all(near)
        # The person stands out from a background of one hue.
        off = np.abs(train.images[row].astype(int) - train.images[row][0, 0]).max(axis=-1)
        assert np.median(off[segments == 0]) < 16
        for name, expected in parts.items():
            assert BODY[segments[lines[JOINTS.index(name)], columns[JOINTS.index(name)]]] in expected, (row, name)


def test_dolls_wear_what_their_label_says():
    bare, legs = {kind: [] for kind in SLEEVES}, {kind: [] for kind in ("trousers", "shorts", "skirt")}
    for number in range(40):
        doll = sample_doll((0, 0, number))
        segments = draw_doll(doll, 0, 64).segments
        bare[doll.sleeves].append((segments == BODY.index("arms")).sum())
        legs[doll.lower].append((segments == BODY.index("legs")).sum())
    assert np.mean(bare["long"]) < 0.5 * np.mean(bare["short"]) < 0.5 * np.mean(bare["none"])
    assert np.mean(legs["trousers"]) < 0.5 * min(np.mean(legs["shorts"]), np.mean(legs["skirt"]))
    # Left and right are the person's: seen from the front its left hand is on the right.
    joints = draw_doll(sample_doll((0, 0, 0)), 0, 64).joints
    assert joints[JOINTS.index("left_shoulder"), 0] > joints[JOINTS.index("right_shoulder"), 0]


def test_dolls_of_any_size_show_the_same(dolls):
    small, large = (draw_doll(sample_doll((5, 0, 1)), 1, size) for size in (40, 160))
    np.testing.assert_allclose(large.joints[:, :2], 4 * small.joints[:, :2], rtol=1e-5)
    agree = (large.segments[::4, ::4] == small.segments).mean()
    assert agree > 0.93


def test_labels_of_dolls():
    by_kind = open_people("paper_dolls", persons=(8, 1, 1), size=48, labels="kinds")
    by_colour = open_people("paper_dolls", persons=(8, 1, 1), size=48)
    assert by_colour.classes[0] == "red" and len(by_colour.classes) == 8 and len(by_kind.classes) == 9
    for number in range(8):
        doll, row = sample_doll((0, 0, number)), 2 * number
        kind, colour = by_kind.split("train").labels[row], by_colour.split("train").labels[row]
        assert by_kind.classes[kind] == f"{doll.sleeves} sleeves, {doll.lower}"
        assert by_colour.classes[colour] == doll.upper_colour


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"persons": (1, 2)}, "expected three counts"),
        ({"poses": 1}, "expected poses >= 2, size >= 32 and seed >= 0, got 1, 64 and 0"),
        ({"labels": "colour"}, "Did you mean 'colours'"),
        ({"people": 3}, "unknown option"),
    ],
)
def test_dolls_refuse(options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_people("paper_dolls", **options)
    with pytest.raises(UserError, match="drawn, not read"):
        open_people("paper_dolls", tmp_path)


def openpose(points):
    return json.dumps({"people": [{"pose_keypoints_2d": np.ravel(person).tolist()} for person in points]})


def standing(count=18, seed=0):
    points = np.random.default_rng(seed).uniform(1, 6, (count, 3)).astype(np.float32)
    points[:, 2] = 0.5
    return points


@pytest.fixture
def folder(tmp_path):
    """Three training photos, of which two are a pair, and a test photo in a folder of its own."""
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for kind in ("joints", "segments"):
        (tmp_path / kind / "more").mkdir(parents=True)
    names = ["a1.jpg", "a2.png", "b.jpg", "more/c.jpg"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 6, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "photos" / name)
        stem = name.rsplit(".", 1)[0]
        labels = np.random.default_rng(seed).integers(0, 6, (8, 6)).astype(np.uint8)
        PIL.Image.fromarray(labels).save(tmp_path / "segments" / f"{stem}.png")
        ending = "_keypoints.json" if seed % 2 else ".json"
        (tmp_path / "joints" / f"{stem}{ending}").write_text(openpose([standing(seed=seed)]))
    table = "photo,split,clothes\na1.jpg,train,dress\na2.png,train,dress\nb.jpg,train,coat\nmore/c.jpg,test,coat\n"
    (tmp_path / "photos.csv").write_text(table)
    (tmp_path / "pairs.csv").write_text("first,second\na1.jpg,a2.png\n")
    return tmp_path


def test_person_folders(folder):
    data = open_people("person_folders", folder)
    assert data.counts() == {"train": 3, "test": 1} and data.classes == ("coat", "dress")
    train = data.split("train")
    assert train.ids == ["a1.jpg", "a2.png", "b.jpg"] and train.labels.tolist() == [1, 1, 0]
    assert train.pairs.tolist() == [[0, 1]] and data.split("test").pairs.shape == (0, 2)
    np.testing.assert_array_equal(train.joints[1], standing(seed=1))
    np.testing.assert_array_equal(train.segment(1), np.random.default_rng(1).integers(0, 6, (8, 6)))
    (folder / "pairs.csv").unlink()
    assert not len(open_people("person_folders", folder).split("train").pairs)
    assert data.fingerprint() != open_people("person_folders", folder).fingerprint()


def test_person_folders_in_classes_of_lip(folder):
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    PIL.Image.fromarray(labels).save(folder / "segments" / "a1.png")
    with pytest.raises(UserError, match=r"a1.png: expected labels 0 to 5, got \[6, 7, 8, 9, 10\]"):
        open_people("person_folders", folder).split("train").segment(0)
    found = open_people("person_folders", folder, classes="lip").split("train").segment(0)
    assert [BODY[part] for part in found.ravel()] == list(LIP.values())
    # The order of the published labels.
    assert list(LIP)[13] == "face" and list(LIP)[9] == "pants" and BODY[found[2, 3]] == "head"


def test_person_folders_take_the_surest_of_several_persons(folder):
    faint, sure = standing(seed=7), standing(seed=8)
    faint[:, 2] = 0.1
    (folder / "joints" / "b.json").write_text(openpose([faint, sure]))
    np.testing.assert_array_equal(open_people("person_folders", folder).split("train").joints[2], sure)
    (folder / "joints" / "b.json").write_text(openpose([standing(25)]))
    found = open_people("person_folders", folder).split("train").joints[2]
    order = [BODY_25.index(name) for name in JOINTS]
    np.testing.assert_array_equal(found, standing(25)[order])


def test_person_folders_leave_out_photos_without_a_person(folder):
    (folder / "joints" / "a1.json").write_text(openpose([]))
    data = open_people("person_folders", folder)
    assert data.skipped == ["train: image a1.jpg: OpenPose found no person"]
    assert data.split("train").ids == ["a2.png", "b.jpg"] and not len(data.split("train").pairs)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("joints/b.json", openpose([standing(17)]), r"COCO\) or 25 \(BODY_25\), 54 or 75 numbers, got \[51\]"),
        ("joints/b.json", '{"persons": []}', r"b.json: expected OpenPose's .*KeyError"),
        ("joints/b.json", "cut of", r"b.json: expected OpenPose's .*JSONDecodeError"),
        ("pairs.csv", "first,second\na1.jpg,a3.jpg\n", "pair a1.jpg, a3.jpg: photos.csv has no photo 'a3.jpg'"),
        ("pairs.csv", "first,second\na1.jpg,a1.jpg\n", "expected two different photos"),
        ("pairs.csv", "first,second\na1.jpg,more/c.jpg\n", "expected photos of one split, got train and test"),
        ("pairs.csv", "a1.jpg,a2.png\n", "expected a first line first,second, got 'a1.jpg,a2.png'"),
        ("photos.csv", "photo,split\na1.jpg,training\n", "unknown split 'training'. Did you mean 'train'"),
        ("photos.csv", "photo,split\na1.jpg\n", "line 2: expected photo, split, got"),
        ("photos.csv", "photo,split\na1.jpg,train\na1.png,train\n", "two photos 'a1', which would share"),
        ("photos.csv", "photo,split\na1.webp,train\n", "expected photos that end in"),
        ("photos.csv", "photo,split\nb.png,train\n", "'b.png', but its photo is missing: no file"),
        ("photos.csv", "photo,split\nd.png,train\n", "'d.png', but its 18 joints are missing: no file"),
        ("photos.csv", "photo,split\n", "photos.csv: no photos"),
    ],
)
def test_person_folders_refuse(folder, file, text, message):
    if file == "photos.csv":
        (folder / "pairs.csv").unlink()
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        open_people("person_folders", folder)


def test_person_folders_without_a_segmentation(folder):
    (folder / "segments" / "b.png").unlink()
    with pytest.raises(UserError, match="'b.jpg', but its segmentation is missing: no file"):
        open_people("person_folders", folder)
    with pytest.raises(UserError, match="unknown table of classes 'lips'. Did you mean 'lip'"):
        open_people("person_folders", folder, classes="lips")


def write_ready(folder, names=("a1", "a2", "b", "more/c")):
    """Write drawings, masks and heads of noise beside the photos; returns them by folder and name."""
    written, random = {}, np.random.default_rng(9)
    for kind in ("poses", "masks", "heads"):
        (folder / kind / "more").mkdir(parents=True)
        for name in names:
            shape = (8, 6, 3) if kind == "poses" else (8, 6)
            values = random.integers(0, 256, shape).astype(np.uint8)
            written[kind, name] = values if kind == "poses" else (values // 128 * 255).astype(np.uint8)
            PIL.Image.fromarray(written[kind, name]).save(folder / kind / f"{name}.png")
    return written


def test_person_folders_read_what_is_ready(folder):
    plain = open_people("person_folders", folder)
    assert plain.source == {"classes": "body"} and plain.split("test").masks is None
    written = write_ready(folder)
    data = open_people("person_folders", folder)
    assert data.source == {"classes": "body", "ready": ["heads", "masks", "poses"]}
    test, train = data.split("test"), data.split("train")
    np.testing.assert_array_equal(test.read("poses", 0), written["poses", "more/c"])
    for kind in ("masks", "heads"):
        np.testing.assert_array_equal(train.read(kind, 2), written[kind, "b"] == 255)
    PIL.Image.fromarray(written["masks", "b"] == 255).save(folder / "masks" / "b.png")
    np.testing.assert_array_equal(train.read("masks", 2), written["masks", "b"] == 255)
    changed = open_people("person_folders", folder).fingerprint()
    # Each folder may be there alone.
    for kind in ("poses", "heads"):
        (folder / kind).rename(folder / f"other {kind}")
    alone = open_people("person_folders", folder)
    assert alone.source["ready"] == ["masks"] and alone.split("train").poses is None
    assert len({plain.fingerprint(), data.fingerprint(), changed, alone.fingerprint()}) == 4


def test_person_folders_need_a_file_for_each_photo_in_a_folder_that_is_there(folder):
    write_ready(folder)
    for name in ("a2", "more/c"):
        (folder / "heads" / f"{name}.png").unlink()
    message = (
        r"heads: expected a file for each of the 4 photos with a person, 2 are missing, the first is .*heads/a2.png"
    )
    with pytest.raises(UserError, match=message):
        open_people("person_folders", folder)
    # Of photos without a person nothing is needed.
    for name in ("a2_keypoints", "more/c_keypoints"):
        (folder / "joints" / f"{name}.json").write_text(openpose([]))
    assert len(open_people("person_folders", folder).split("train")) == 2


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (MaskFile, np.array([[0, 255], [128, 1]], np.uint8), "a.png: expected 0 or 255 at each pixel, got 128"),
        (MaskFile, np.zeros((2, 2, 3), np.uint8), "a.png: expected a grey image, got one of mode RGB"),
        (
            PoseFile,
            np.zeros((2, 2), np.uint8),
            "a.png: expected red, green and blue of 8 bits, got .* mode L with 8 bits",
        ),
        (PoseFile, np.zeros((2, 2, 4), np.uint8), "got an image of mode RGBA with 8 bits"),
    ],
)
def test_ready_files_refuse(tmp_path, file, values, message):
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        file(tmp_path / "a.png").read()
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(UserError, match="a.png: "):
        file(tmp_path / "a.png").read()


def test_drawings_of_16_bits_are_refused(tmp_path):
    """PIL reads them as if they had 8."""
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(np.full((2, 2, 3), 300, np.uint16)).numpy())
    with pytest.raises(UserError, match="of mode RGB with 16 bits"):
        PoseFile(tmp_path / "a.png").read()


@pytest.fixture
def parsing(tmp_path):
    """Clothing Co-Parsing with two photos: hair above a face, an arm beside a shirt, and bare legs."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "annotations" / "pixel-level").mkdir(parents=True)
    labels = np.zeros((20, 9), np.uint8)
    labels[0:2, 3:6] = CLASSES.index("hair")
    labels[2:4, 3:6] = CLASSES.index("skin")
    labels[4:10, 3:6] = CLASSES.index("shirt")
    labels[4:9, 1:2] = CLASSES.index("skin")
    labels[10:13, 3:6] = CLASSES.index("skirt")
    labels[13:18, 3:6] = CLASSES.index("skin")
    labels[18:20, 3:6] = CLASSES.index("boots")
    for name in ("0001", "0021"):
        PIL.Image.fromarray(np.zeros((20, 9, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.jpg")
        scipy.io.savemat(tmp_path / "annotations" / "pixel-level" / f"{name}.mat", {"groundtruth": labels})
    return tmp_path


def test_clothing_co_parsing(parsing):
    data = open_people("clothing_co_parsing", parsing)
    assert data.counts() == {"test": 2} and len(CLASSES) == 59
    test = data.split("test")
    assert not len(test.pairs) and not test.joints.any() and test.labels is None
    found = test.segment(0)
    middle = [BODY[part] for part in found[:, 4]]
    assert middle == ["head"] * 4 + ["upper"] * 6 + ["lower"] * 3 + ["legs"] * 7
    assert {BODY[part] for part in found[4:9, 1]} == {"arms"}


def test_clothing_co_parsing_divides_skin_by_joints(parsing, tmp_path):
    joints = np.zeros((18, 3), np.float32)
    # Only legs are known, so that all skin is legs; and one photo without a person.
    joints[JOINTS.index("left_hip")] = joints[JOINTS.index("left_knee")] = (4, 12, 1)
    (parsing / "openpose").mkdir()
    write_openpose(parsing / "openpose" / "0001.json", joints)
    (parsing / "openpose" / "0021_keypoints.json").write_text('{"people": []}')
    data = open_people("clothing_co_parsing", parsing, joints=str(parsing / "openpose"))
    assert data.skipped == ["test: image 0021: OpenPose found no person"]
    found = data.split("test").segment(0)
    assert {BODY[part] for part in found[4:9, 1]} == {"legs"} and BODY[found[3, 4]] == "legs"
    assert data.fingerprint() != open_people("clothing_co_parsing", parsing).fingerprint()
    (parsing / "openpose" / "0001.json").unlink()
    with pytest.raises(UserError, match="0001.json is missing: the joints of photo 0001"):
        open_people("clothing_co_parsing", parsing, joints=str(parsing / "openpose"))


def test_clothing_co_parsing_refuses(parsing):
    path = parsing / "annotations" / "pixel-level" / "0001.mat"
    scipy.io.savemat(path, {"groundtruth": np.full((4, 4), 59, np.uint8)})
    test = open_people("clothing_co_parsing", parsing).split("test")
    with pytest.raises(UserError, match=r"0001.mat: expected labels 0 to 58, got \[59\]"):
        test.segment(0)
    path.write_bytes(b"not a MAT file")
    with pytest.raises(UserError, match="expected a MAT file with the labels 'groundtruth'"):
        test.segment(0)
    (parsing / "photos" / "0021.jpg").unlink()
    with pytest.raises(UserError, match=r"0021.jpg is missing, of which there are labels"):
        open_people("clothing_co_parsing", parsing)


def test_skin_is_divided_by_what_it_touches():
    parts = np.zeros((30, 12), np.uint8)
    parts[0:3, 4:8] = BODY.index("head")
    skin = np.zeros((30, 12), bool)
    skin[4:7, 4:8] = True  # a face below the hair, two pixels away
    skin[10:16, 0:2] = True
    skin[20:30, 5:7] = True
    found = divided_skin(skin, parts)
    assert (found[4:7, 4:8] == BODY.index("head")).all()
    assert (found[10:16, 0:2] == BODY.index("arms")).all()
    assert (found[20:30, 5:7] == BODY.index("legs")).all()
    assert not found[~skin].any()


def test_real_clothing_co_parsing(real_data):
    data = open_people("clothing_co_parsing", real_data / "ClothingCoParsing")
    names = json.loads((real_data / "ClothingCoParsing" / "label_list.json").read_text())
    assert tuple(names) == CLASSES and data.counts() == {"test": 51}
    test = data.split("test")
    total = np.zeros(6)
    for row in range(0, 51, 5):
        segments = test.segment(row)
        with PIL.Image.open(test.images[row]) as photo:
            assert segments.shape == photo.size[::-1]
        total += np.bincount(segments.ravel(), minlength=6)
        # Heads are above upper clothes, those above legs; a sitting person may hide some.
        rows = [np.nonzero(segments == BODY.index(part))[0] for part in ("head", "upper", "legs")]
        heights = [found.mean() for found in rows if len(found)]
        assert heights == sorted(heights) and len(heights) > 1
    assert (total > 0).all()


def test_names():
    assert {"paper_dolls", "person_folders", "clothing_co_parsing"} <= set(person_names())
    with pytest.raises(UserError, match="Did you mean 'paper_dolls'"):
        open_people("paper_doll")
