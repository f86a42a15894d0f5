"""What the hardware can do."""


def multiplies_bf16() -> bool:
    """Whether it multiplies bf16 natively (CUDA >= 8.0, AVX512-BF16, AMX)."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
