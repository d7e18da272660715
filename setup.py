from setuptools import find_packages, setup

setup(
    name="rcig",
    version="0.1.0",
    description="Dataset distillation in JAX: RCIG and its field in one library",
    python_requires=">=3.11",
    packages=find_packages(include=["rcig*", "kernels*", "methods*", "configs*"]),
    py_modules=["distill_dataset", "eval"],
    install_requires=[
        "jax>=0.10",
        "flax>=0.12.6",
        "optax>=0.2.8",
        "chex>=0.1.91",
        "ml_collections>=1.0",
        "absl-py>=2.0",
        "orbax-checkpoint>=0.12,<1",
        "tensorflow-datasets>=4.9.10",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without asking for it
        "grain>=0.2.15",
        "numpy>=2.0",
        "scikit-learn>=1.5",
        "joblib>=1.3",
        "Pillow>=10.1",
        "matplotlib>=3.8",
        "safetensors>=0.5",
        "scipy>=1.12",
        "threadpoolctl>=3.2",
    ],
    extras_require={
        "cuda": ["jax[cuda]"],
        "tpu": ["jax[tpu]"],
        "prepare": ["tensorflow>=2.20"],
        # brings TensorFlow, which is not used; without: pip install --no-deps neural-tangents==0.6.5 frozendict
        "nt": ["neural-tangents==0.6.5"],
        "tensorboard": ["tensorboardX>=2.6"],
        "test": ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.100", "ruff>=0.8", "pyright>=1.1.390"],
    },
)
