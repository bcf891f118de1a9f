//! Limits how often a payment action is made for one order. Whoever has the address of its page may have
//! that done, and each may cost a slow signature.

use std::num::NonZeroU32;

use governor::Quota;

use crate::domain::identifiers::PayOrderNo;
use crate::limits::{ADDRESSES_MAX, CallerLimits, GovernorClock, Keyed, Wait, check, limiter};

/// Actions of one order in a second, for long.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// Actions of one order at once: a payer goes back and on again.
const AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

pub(super) fn limiter_of_orders(ticks: &GovernorClock) -> Keyed<PayOrderNo> {
    limiter(Quota::per_second(PER_SECOND).allow_burst(AT_ONCE), ticks)
}

impl CallerLimits {
    /// Counts a payment action that is to be made for an order.
    ///
    /// # Errors
    /// [`Wait`] if there were too many; nothing was counted then.
    pub fn may_make_action(&self, order: &PayOrderNo) -> Result<(), Wait> {
        if self.made_actions.len() > ADDRESSES_MAX {
            self.made_actions.retain_recent();
        }
        self.counted("payer_page", check(&self.made_actions, order))
    }
}
