"""What the process imports that all others are forked from: the clocks first, so that nobody has hold of the real ones."""

from tests.campaigns.pace import lay_hold_of_the_clocks

lay_hold_of_the_clocks()

import tests.campaigns.gateway_faults  # noqa: E402
import tests.campaigns.lives  # noqa: E402, F401
