import sys

import numpy as np

from providers.runtime import Samples
from providers.vad import FRAME, VoiceActivity


def spoken() -> Samples:
    from hibari import Hibari

    from providers.audio import resample

    samples = resample(Hibari()("Good morning to you all. How are you?", seed=1), 24_000, 16_000)
    return samples[: len(samples) // FRAME * FRAME]


def test_a_voice_is_heard_frame_by_frame() -> None:
    samples = spoken()
    probabilities = VoiceActivity().hear(samples)

    assert probabilities.shape == (len(samples) // FRAME,)
    assert (probabilities > 0.9).mean() > 0.5
    assert probabilities[0] < 0.2


def test_it_does_not_matter_in_how_many_pieces_a_recording_comes() -> None:
    samples = spoken()
    activity = VoiceActivity()
    pieces = [activity.hear(samples[at : at + 7 * FRAME]) for at in range(0, len(samples), 7 * FRAME)]

    assert np.allclose(np.concatenate(pieces), VoiceActivity().hear(samples), atol=1e-5)


def test_its_package_is_never_imported() -> None:
    """It would set torch to one thread."""
    VoiceActivity()

    assert "silero_vad" not in sys.modules
