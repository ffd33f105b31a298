"""The peers: other libraries' own code, asked for the same loss."""

from geomalign.parity.peers.base import Peer as Peer
from geomalign.parity.peers.base import unavailable as unavailable
from geomalign.parity.peers.liger import Liger as Liger
from geomalign.parity.peers.openrlhf import OpenRLHF as OpenRLHF
from geomalign.parity.peers.torchrl import TorchRL as TorchRL
from geomalign.parity.peers.trl import TRL as TRL
from geomalign.parity.peers.verl import Verl as Verl

PEERS: dict[str, Peer] = {peer.name: peer for peer in (TRL(), Verl(), Liger(), OpenRLHF(), TorchRL())}
"""Every peer by its name."""
