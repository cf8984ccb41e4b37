#!/usr/bin/env python3
"""Port 111 and a mount of the kernel client over IPv6, on a tap device of this namespace.

Apart from portmap.py because the guest did not come up on the tap device in one run of two; what it waits for is not
known yet."""
from portmap import over_ipv6

over_ipv6()
