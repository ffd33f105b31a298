"""The peers: other libraries' own code, asked for the same loss."""

from tests.parity.peers.base import Peer as Peer
from tests.parity.peers.base import unavailable as unavailable
from tests.parity.peers.liger import Liger as Liger
from tests.parity.peers.openrlhf import OpenRLHF as OpenRLHF
from tests.parity.peers.torchrl import TorchRL as TorchRL
from tests.parity.peers.trl import TRL as TRL
from tests.parity.peers.verl import Verl as Verl

PEERS: dict[str, Peer] = {peer.name: peer for peer in (TRL(), Verl(), Liger(), OpenRLHF(), TorchRL())}
"""Every peer by its name."""
