"""A checkpoint of Cohere's Transcribe as small as its classes allow, with random weights: it says w0 to w19."""

from pathlib import Path

LANGUAGES = ("ar", "de", "el", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "vi", "zh")
SPECIAL_TOKENS = [
    "<unk>",
    "<pad>",
    "<|endoftext|>",
    "<|startofcontext|>",
    "<|startoftranscript|>",
    "<|emo:undefined|>",
    "<|pnc|>",
    "<|nopnc|>",
    "<|noitn|>",
    "<|notimestamp|>",
    "<|nodiarize|>",
    *(f"<|{language}|>" for language in LANGUAGES),
]


def save_tiny_cohere(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import (
        CohereAsrConfig,
        CohereAsrFeatureExtractor,
        CohereAsrForConditionalGeneration,
        CohereAsrProcessor,
        PreTrainedTokenizerFast,
    )

    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "▁", *(f"▁w{n}" for n in range(20))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS[3:],
    )
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = CohereAsrConfig(
        **tiny,
        vocab_size=len(vocabulary),
        max_position_embeddings=32,
        pad_token_id=vocabulary["<pad>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        bos_token_id=vocabulary["<|startoftranscript|>"],
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        encoder_config={**tiny, "subsampling_conv_channels": 8, "num_mel_bins": 16},
    )
    torch.manual_seed(1)
    network = CohereAsrForConditionalGeneration(config)
    network.proj_out.bias.data[: len(SPECIAL_TOKENS) + 1] = -100.0  # so that it speaks in words, and does not end
    network.save_pretrained(folder)
    CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)
