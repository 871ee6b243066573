"""Plain networks and their fusion counterparts: one builder for CNN-A, CNN-B, CNN-11 and CNN-19.

A network is a stack of stages, each a few convolutions and a pooling. Side branches start behind some of the
poolings; like the full-depth main branch they are a 1 x 1 convolution and global average pooling, which gives each
branch a vector of K values. What becomes of the vectors is the fusion's matter.

Source: Liu 2018, Tables 2.1, Figures 2.2 to 2.6, 2.10 and 2.11; layer lists of the released networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tfthesis import layers
from tfthesis.method import Spec


@dataclasses.dataclass(frozen=True)
class Stage:
    """Convolutions of `channels`, `kernel` pixels wide, and the pooling behind them."""

    channels: tuple[int, ...]
    kernel: int = 3
    pooling: str = ""
    stride: int = 1


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A plain network.

    Attributes:
        stages: from the input on.
        sides: the stages, counted from 0, behind whose pooling a side branch starts.
        width: K, channels of the 1 x 1 convolution at the end of every branch.
        normalised: BatchNorm behind each convolution, no bias (but for the first) and no dropout.
        side: of the input, in pixels.
    """

    stages: tuple[Stage, ...]
    sides: tuple[int, ...]
    width: int
    normalised: bool
    side: int


def _imagenet(convolutions: int) -> Architecture:
    stages = [Stage((64,), 7, "max", 2)]
    for number, channels in enumerate((64, 128, 256, 512)):
        stages.append(Stage((channels,) * convolutions, 3, "max" if number < 3 else ""))
    return Architecture(tuple(stages), sides=(1, 2, 3), width=1024, normalised=True, side=224)


ARCHITECTURES = {
    "a": Architecture((Stage((64,), 5, "max"), Stage((64,), 5, "average"), Stage((64,), 5)), (0, 1), 192, False, 32),
    "b": Architecture(
        (Stage((96, 96), 3, "max"), Stage((192, 192), 3, "average"), Stage((192, 192), 3)), (0, 1), 192, False, 32
    ),
    "b_wide": Architecture(
        (Stage((192, 192), 3, "max"), Stage((192, 192), 3, "average"), Stage((192, 192), 3)), (0, 1), 192, False, 32
    ),
    "11": _imagenet(2),
    "19": _imagenet(4),
    "tiny": Architecture((Stage((8,), 3, "max"), Stage((8,), 3, "average"), Stage((8,), 3)), (0, 1), 16, False, 32),
}

FUSIONS = ("none", "sum", "convolution", "local")


@dataclasses.dataclass(frozen=True)
class Options:
    """What becomes of a plain network.

    Attributes:
        architecture: key of `ARCHITECTURES`.
        fusion: "none" for the plain network, otherwise how its branches are fused.
        late_prediction: fuse the vectors and then predict (EFLP); otherwise predict from each and then fuse (EPLF).
        side_kernel: width of the last convolution of the side branches.
        fusion_kernel, conditioned: of `LocallyConnectedFusion`.
        deep_supervision: give each side branch a classifier and a loss of its own instead of fusing it (DSN).
        shortcuts: add the input of a stage's convolutions to their output (ResNet).
        dropout: share that is dropped behind poolings and from the last vector.
        norm_momentum, norm_epsilon: of BatchNorm.
        precision: dtype policy.
    """

    architecture: str
    fusion: str = "none"
    late_prediction: bool = True
    side_kernel: int = 1
    fusion_kernel: int = 1
    conditioned: bool = False
    deep_supervision: bool = False
    shortcuts: bool = False
    dropout: float = 0.5
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    precision: str = "float32"


def build_network(options: Options, spec: Spec) -> tuple[dict[str, keras.KerasTensor], dict[str, keras.KerasTensor]]:
    """Return inputs and outputs of a network for `spec`.

    Input `image` `[B, side, side, 3]`, pixels in 0..255. Outputs `logits` `[B, C]`; `feature` `[B, K]`, the fused
    vector or, of a plain network and with early prediction, that of the main branch; with deep supervision also
    `side_1_logits` and so on.
    """
    return _Builder(options, ARCHITECTURES[options.architecture]).build(spec)


class _Builder:
    """Makes the layers of one network; `self.plan` is its architecture."""

    def __init__(self, options: Options, plan: Architecture):
        self.options, self.plan = options, plan

    def build(self, spec: Spec) -> tuple[dict[str, keras.KerasTensor], dict[str, keras.KerasTensor]]:
        image = keras.Input(spec.inputs["image"], name="image")
        x, taps = self._trunk(self._preprocess(image))
        outputs: dict[str, keras.KerasTensor] = {}
        with_sides = self.options.fusion != "none" or self.options.deep_supervision
        branches = [self._branch(tap, f"side{number + 1}") for number, tap in enumerate(taps)] if with_sides else []
        branches.append(self._branch(x, "main"))
        classes = len(spec.classes)
        if self.options.deep_supervision:
            for number, branch in enumerate(branches[:-1]):
                outputs[f"side_{number + 1}_logits"] = self._dense(classes, f"side{number + 1}_prediction")(branch)
            branches = branches[-1:]
        return {"image": image}, {**outputs, **self._predict(branches, classes)}

    def _predict(self, branches: list[keras.KerasTensor], classes: int) -> dict[str, keras.KerasTensor]:
        """Return feature and logits of one branch, or of several that are fused."""
        if len(branches) == 1:
            return {
                "feature": branches[0],
                "logits": self._dense(classes, "prediction")(self._drop(branches[0], "top")),
            }
        if self.options.late_prediction:
            fused = self._fuse(branches, "relu", normalised=self.plan.normalised)
            return {"feature": fused, "logits": self._dense(classes, "prediction")(self._drop(fused, "top"))}
        single = [
            self._dense(classes, f"prediction{number + 1}")(self._drop(branch, f"top{number + 1}"))
            for number, branch in enumerate(branches)
        ]
        return {"feature": branches[-1], "logits": self._fuse(single, None, normalised=False)}

    def _fuse(
        self, branches: list[keras.KerasTensor], activation: str | None, *, normalised: bool
    ) -> keras.KerasTensor:
        options = self.options
        if options.fusion == "local":
            layer: Callable = layers.LocallyConnectedFusion(
                options.fusion_kernel,
                options.conditioned,
                # As in the released network: BatchNorm follows, which has a bias of its own.
                use_bias=not normalised,
                activation=None if normalised else activation,
                name="fusion",
                dtype=options.precision,
            )
            fused = layer(branches)
            if not normalised:
                return fused
            # One mean, variance, scale and shift for the whole vector, as the released network has them.
            fused = keras.layers.Reshape((-1, 1), name="fusion_positions", dtype=options.precision)(fused)
            fused = self._norm("fusion_norm")(fused)
            fused = keras.layers.Reshape((self.plan.width,), name="fusion_vector", dtype=options.precision)(fused)
        else:
            fused = layers.LayerFusion(options.fusion, name="fusion", dtype=options.precision)(branches)
        if activation is None:
            return fused
        return keras.layers.Activation(activation, name="fusion_relu", dtype=options.precision)(fused)

    def _preprocess(self, image: keras.KerasTensor) -> keras.KerasTensor:
        if self.plan.normalised:
            # Means of ImageNet's red, green and blue.
            means = [-123.0, -117.0, -104.0]
            return keras.layers.Rescaling(1.0, means, name="mean_subtraction", dtype=self.options.precision)(image)
        return layers.GlobalContrastNormalization(name="contrast", dtype=self.options.precision)(image)

    def _trunk(self, x: keras.KerasTensor) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
        """Return the last map, and the pooled maps that side branches start from."""
        taps = []
        for number, stage in enumerate(self.plan.stages):
            before = x
            for place, channels in enumerate(stage.channels):
                is_last = place == len(stage.channels) - 1
                x = self._convolution(x, channels, stage, f"conv{number + 1}_{place + 1}", first=number == place == 0)
                if self.options.shortcuts and number and is_last:
                    x = self._shortcut(before, x, f"shortcut{number + 1}")
            if stage.pooling:
                x = self._drop(self._pool(x, stage.pooling, f"pool{number + 1}"), f"pool{number + 1}")
            if number in self.plan.sides:
                taps.append(x)
        return x, taps

    def _convolution(
        self, x: keras.KerasTensor, channels: int, stage: Stage, name: str, *, first: bool
    ) -> keras.KerasTensor:
        padding = "same"
        if stage.stride > 1:
            # What pads a stride of two like the framework of the released networks.
            sides = stage.kernel // 2
            x = keras.layers.ZeroPadding2D(sides, name=f"{name}_padding", dtype=self.options.precision)(x)
            padding = "valid"
        x = self._layer(channels, stage.kernel, name, strides=stage.stride, padding=padding, bias=first)(x)
        return self._activate(x, name)

    def _branch(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Return the vector `[B, K]` of a branch: its last convolution and global average pooling."""
        kernel = 1 if name == "main" else self.options.side_kernel
        x = self._activate(self._layer(self.plan.width, kernel, f"{name}_conv", bias=False)(x), f"{name}_conv")
        return keras.layers.GlobalAveragePooling2D(name=f"{name}_pool", dtype=self.options.precision)(x)

    def _shortcut(self, before: keras.KerasTensor, after: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if before.shape[-1] != after.shape[-1]:
            before = self._layer(after.shape[-1], 1, f"{name}_conv", bias=False)(before)
        return keras.layers.Add(name=name, dtype=self.options.precision)([before, after])

    def _layer(
        self, channels: int, kernel: int, name: str, *, strides: int = 1, padding: str = "same", bias: bool
    ) -> keras.layers.Conv2D:
        normalised = self.plan.normalised
        # "Xavier" by the inputs alone, as the framework of the released networks has it.
        xavier = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        initial: Any = xavier if normalised else keras.initializers.RandomNormal(stddev=0.05)
        return keras.layers.Conv2D(
            channels,
            kernel,
            strides,
            padding,
            use_bias=bias or not normalised,
            kernel_initializer=initial,
            bias_initializer=keras.initializers.Constant(0.2) if normalised else "zeros",
            name=name,
            dtype=self.options.precision,
        )

    def _activate(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self.plan.normalised:
            x = self._norm(f"{name}_norm")(x)
        return keras.layers.ReLU(name=f"{name}_relu", dtype=self.options.precision)(x)

    def _norm(self, name: str) -> keras.layers.BatchNormalization:
        return keras.layers.BatchNormalization(
            momentum=self.options.norm_momentum,
            epsilon=self.options.norm_epsilon,
            synchronized=True,
            name=name,
            dtype=self.options.precision,
        )

    def _pool(self, x: keras.KerasTensor, kind: str, name: str) -> keras.KerasTensor:
        pool = keras.layers.MaxPooling2D if kind == "max" else keras.layers.AveragePooling2D
        return pool(3, 2, "same", name=name, dtype=self.options.precision)(x)

    def _drop(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if self.plan.normalised or not self.options.dropout:
            return x
        return layers.ExampleDropout(self.options.dropout, name=f"{name}_dropout", dtype=self.options.precision)(x)

    def _dense(self, classes: int, name: str) -> keras.layers.Dense:
        xavier = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        initial: Any = xavier if self.plan.normalised else keras.initializers.RandomNormal(stddev=0.1)
        return keras.layers.Dense(classes, kernel_initializer=initial, name=name, dtype=self.options.precision)
