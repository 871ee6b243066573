"""Makes bi_lstm_max.npz: what PyTorch gives for small random weights and sentences of varied lengths.

Run as `python tests/golden/make_bi_lstm_max.py` where PyTorch 2.13.0 and numpy are installed. The tests do without it.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

# By name, because this project does not ask for PyTorch.
torch = importlib.import_module("torch")

UNITS, WIDTH, LENGTHS = 12, 10, (14, 11, 11, 6, 2, 1)


def main() -> None:
    """Write weights, words `[B, L, D]`, lengths and the maximum over the words, `[B, 2 * units]`."""
    rng = np.random.default_rng(0)
    lstm = torch.nn.LSTM(WIDTH, UNITS, 1, bidirectional=True)
    weights = {
        name: rng.normal(scale=0.5, size=tuple(value.shape)).astype(np.float32)
        for name, value in lstm.state_dict().items()
    }
    lstm.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    words = rng.normal(size=(len(LENGTHS), max(LENGTHS), WIDTH)).astype(np.float32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.from_numpy(words.transpose(1, 0, 2)), LENGTHS)
    with torch.no_grad():
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], padding_value=-torch.inf)
    np.savez_compressed(
        Path(__file__).with_name("bi_lstm_max.npz"),
        words=words,
        lengths=np.array(LENGTHS),
        expected=outputs.max(0)[0].numpy(),
        torch=np.array(torch.__version__),
        **{f"enc_lstm.{name}": array for name, array in weights.items()},
    )


if __name__ == "__main__":
    main()
