#!/usr/bin/env python3
"""The schedule metad-loss30 of nfs_night.py: metad's LEADER loses 30 % of its packets while a kernel client writes."""
import sys
import nfs_night

sys.argv[1:] = ["metad-loss30"]
nfs_night.main()
