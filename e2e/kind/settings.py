"""Names, places and address ranges of the cluster. Ranges are parts of 198.18.0.0/15, RFC 2544's for tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
STATE = ROOT / "build/kind"  # what a cluster that runs left to find it by
KUBECONFIG = STATE / "kubeconfig"
TRACES = "sip.pcap"  # in STATE, a number after it: the last SIP between nodes
RUN = Path("/run/switchboard-kind")  # the engine's, of which a machine has one

CLUSTER = "switchboard"
NODES = (f"{CLUSTER}-control-plane", f"{CLUSTER}-worker", f"{CLUSTER}-worker2")

NETWORK = "switchboard-kind"  # the engine's network that nodes are in
INTERFACE = "sb-kind"  # this machine's in it, which sees what goes from node to node
EVERYTHING = "198.18.0.0/15"
NODE_RANGE, NODE_GATEWAY = "198.18.0.0/24", "198.18.0.1"
BRIDGE = "198.18.254.1/24"  # the engine's own, which nothing here uses
POOL = "base=198.18.64.0/18,size=24"  # for networks made without a range
POD_RANGE = "198.18.128.0/17"
SERVICE_RANGE = "198.19.0.0/16"
MTU = 1400
