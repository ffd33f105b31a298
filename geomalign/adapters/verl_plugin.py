"""The entry point of group `verl.plugins`: importing this module registers geomalign's losses and estimators with verl.

verl hides the exception of a plug-in that fails to load, so it is written to the log first.
"""

import logging

from geomalign.adapters.verl import register

try:
    register()
except Exception:
    logging.getLogger(__name__).exception("geomalign's losses are not registered with verl")
    raise
