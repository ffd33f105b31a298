"""The entry point of group `verl.plugins`: importing this module registers geomalign's losses and estimators with verl.

verl says nothing of what a plug-in raises while it loads, so a failure is written to the log first.
"""

import logging

from geomalign.adapters.verl import register

try:
    register()
except Exception:
    logging.getLogger(__name__).exception("geomalign's losses are not registered with verl")
    raise
