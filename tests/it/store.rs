//! The contract of a store: one list of scenarios, run on each store and again on each decorator
//! around a store. A behaviour that is not in this list is not guaranteed.

use std::sync::Arc;

use paymux::store::Store;
use paymux::store::nonce_cache::NonceCache;
use paymux::store::notifying::NotifyingChanges;

use crate::world::memory::MemoryStore;
use embedded::EmbeddedStores;

mod alone;
mod breaks;
pub(crate) mod builders;
mod built;
pub(crate) mod embedded;
mod endings;
mod exchange_log;
mod explained;
pub(crate) mod leases;
mod log;
mod older;
pub(crate) mod outbox;
pub(crate) mod refunds;
pub(crate) mod verify_store;
pub(crate) mod writes;

/// A factory whose store can be closed and reopened on the same data.
pub(crate) trait Stores {
    /// Opens it; every handle of an earlier opening must have been dropped.
    fn open(&self) -> Arc<Store>;
}

/// Runs every scenario on stores of one kind.
macro_rules! contract {
    ($kind:ident, $stores:expr) => {
        mod $kind {
            use super::*;
            contract! { @each $stores;
                writes: what_was_written_reads_back_equal, an_excess_payment_reads_back_equal,
                    an_order_is_found_under_its_names_alone, a_taken_number_writes_nothing,
                    a_stale_change_writes_nothing, a_spent_nonce_is_refused_for_ever,
                    a_nonce_is_spent_without_an_effect, of_equal_requests_exactly_one_is_done,
                    what_is_forgotten_stays_refused, seconds_ahead_shut_out_themselves,
                    each_opening_is_an_epoch_of_its_own, the_last_institution_is_remembered,
                    a_message_is_archived_once, of_forged_messages_a_sample_is_archived,
                    the_status_of_the_same_bytes_only_hardens,
                    a_configurations_version_never_sinks, the_dependents_of_an_institution_are_counted,
                    the_dependents_of_an_account_are_counted;
                refunds: a_refund_reads_back_equal, a_refund_is_found_under_its_names_alone,
                    a_taken_refund_number_writes_nothing, a_refund_of_a_dead_process_is_orphaned,
                    refunds_side_by_side_never_exceed_what_was_paid;
                leases: a_leased_order_is_leased_to_nobody_else, a_lost_lease_completes_nothing,
                    a_change_ends_the_lease, a_schedule_outlives_leases_changes_and_processes,
                    an_institution_has_only_its_share, a_named_order_is_leased_before_it_is_due,
                    an_order_is_due_when_its_change_says,
                    what_a_clock_ahead_put_off_is_brought_forward,
                    a_holder_from_before_the_step_puts_nothing_off,
                    a_crash_between_following_and_bringing_forward_is_completed,
                    a_lease_of_an_event_born_ahead_is_handed_back_at_once, orphaned_calls_are_those_of_dead_processes,
                    an_event_is_leased_until_it_is_delivered, a_dead_lettered_event_is_not_leased,
                    what_a_dead_process_was_delivering_is_due_at_once,
                    a_destination_has_only_its_share, what_goes_nowhere_is_not_leased;
                outbox: events_are_numbered_without_a_gap, of_events_only_what_fits_is_given,
                    dead_lettered_events_are_listed_and_sent_again, whoever_has_least_under_way_comes_first;
            }
        }
    };
    (@each $stores:expr; $($file:ident: $($scenario:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$file::$scenario(&$stores).await;
            }
        )+)+
    };
}

contract!(sqlite, EmbeddedStores::new());
contract!(memory, MemoryStore::new());
contract!(
    sqlite_nonce_cache,
    NonceCachingStores(EmbeddedStores::new())
);
contract!(sqlite_notifying, NotifyingStores(EmbeddedStores::new()));

/// The store of the simulation; each opening is the next process.
impl Stores for MemoryStore {
    fn open(&self) -> Arc<Store> {
        Arc::new(self.restarted()).handles()
    }
}

struct NonceCachingStores(EmbeddedStores);

impl Stores for NonceCachingStores {
    fn open(&self) -> Arc<Store> {
        let store = Store::clone(&self.0.open());
        Arc::new(NonceCache::in_front_of(store))
    }
}

struct NotifyingStores(EmbeddedStores);

impl Stores for NotifyingStores {
    fn open(&self) -> Arc<Store> {
        let (store, signals) = (Store::clone(&self.0.open()), Arc::default());
        Arc::new(NotifyingChanges::in_front_of(store, signals))
    }
}
