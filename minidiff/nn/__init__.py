"""Networks in torch, and what they need around them. Only this floor and `train` import torch."""

from minidiff.nn import checkpoint
from minidiff.nn.ema import EMA
from minidiff.nn.mlp import MLP
from minidiff.nn.seeds import Seeds
from minidiff.nn.unet import UNet, UNetConfig, parameters

__all__ = ["EMA", "MLP", "Seeds", "UNet", "UNetConfig", "checkpoint", "parameters"]
