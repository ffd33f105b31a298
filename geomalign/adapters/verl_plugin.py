"""What verl's entry-point group `verl.plugins` names: importing this module registers geomalign's losses and
estimators.

verl swallows whatever a plug-in raises while it loads, so a failure is written to the log first.
"""

import logging

from geomalign.adapters.verl import register

try:
    register()
except Exception:
    logging.getLogger(__name__).exception("geomalign's losses are not registered with verl")
    raise
