"""The implementations: other libraries' own code, asked for the same loss."""

from tests.parity.implementations.areal import AReaL as AReaL
from tests.parity.implementations.base import ReferenceImplementation as ReferenceImplementation
from tests.parity.implementations.base import unavailable as unavailable
from tests.parity.implementations.liger import Liger as Liger
from tests.parity.implementations.openrlhf import OpenRLHF as OpenRLHF
from tests.parity.implementations.skyrl import SkyRL as SkyRL
from tests.parity.implementations.swift import Swift as Swift
from tests.parity.implementations.torchrl import TorchRL as TorchRL
from tests.parity.implementations.trinity import Trinity as Trinity
from tests.parity.implementations.trl import TRL as TRL
from tests.parity.implementations.verl import Verl as Verl

IMPLEMENTATIONS: dict[str, ReferenceImplementation] = {
    implementation.name: implementation
    for implementation in (TRL(), Verl(), AReaL(), Liger(), OpenRLHF(), SkyRL(), Swift(), TorchRL(), Trinity())
}
"""Every reference implementation by its name."""
