//! The contract, and what is SQLite's own: files, locks, versions, full disks and kills.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::journal::{
    Next,
    contract::{self, Place, contract},
};

/// A data directory that goes with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Place for Directory {
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Journal> {
        self.0.open(clock)
    }
}

impl Place for TempDir {
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Journal> {
        Arc::new(
            SqliteJournal::open(
                self.path(),
                Options {
                    clock,
                    ..Options::default()
                },
            )
            .unwrap(),
        )
    }
}

contract! {
    Directory::new();
    arrivals::{
        an_event_is_found_whole_with_its_request_and_what_it_owes,
        a_redelivery_gets_the_first_event_and_owes_nothing,
        of_simultaneous_redeliveries_one_is_first,
        one_bad_row_fails_alone,
        rules_come_before_what_names_them,
        a_client_that_hangs_up_takes_nothing_with_it,
        an_arrival_wakes_who_waits_for_deliveries,
        lists_are_filtered_and_paged,
        all_events_are_gone_through_oldest_first_stretch_by_stretch,
        a_stretch_ends_with_the_event_by_which_it_has_enough_bytes,
        refused_requests_are_told_newest_first,
        a_closed_journal_refuses_and_keeps,
        counts_follow_every_state,
        what_is_settled_is_counted_whoever_settled_it,
        where_deliveries_stand_is_told_of_those_that_there_are,
    }
    deliveries::{
        claims_are_oldest_first_and_taken_once,
        a_claim_holds_all_that_a_dispatcher_needs,
        deliveries_of_a_busy_instance_stay,
        steps_run_in_turn_and_hand_on_what_they_put_out,
        a_failed_delivery_runs_its_on_failure_steps_with_the_reason,
        what_was_interrupted_counts_and_goes_on_at_once,
        a_claim_ends_with_its_lease_and_then_belongs_to_another,
        attempts_follow_their_numbers_and_steps,
        what_is_released_waits_until_it_is_due,
        what_waits_for_an_instance_is_woken_and_nothing_else,
        a_delivery_knows_since_when_nothing_was_begun_of_it,
        what_waits_follows_a_clock_that_is_set,
        a_clock_that_was_set_is_followed_once_whatever_starts_before_anything_new_comes,
        what_was_told_to_wait_by_the_clock_as_it_is_now_stays,
    }
    order::{
        of_one_key_of_one_route_only_the_oldest_runs,
        a_dead_letter_frees_its_key,
        a_replay_stands_behind_what_is_there_of_its_key,
        a_key_that_cannot_be_told_is_a_dead_letter_that_blocks_nothing,
        what_is_given_up_from_the_start_is_told_of_and_blocks_nothing,
    }
    line::{
        a_newer_delivery_takes_the_place_of_those_that_wait,
        one_that_backs_off_is_superseded_and_says_how_far_it_came,
        what_may_have_acted_or_tells_of_a_failure_is_not_superseded,
        what_ran_out_of_time_may_have_acted_and_is_not_superseded_whatever_came_after,
        what_comes_to_rest_yields_to_a_newer_one_that_came_meanwhile,
        the_replay_of_the_newest_stands_for_it,
        an_event_from_the_future_is_as_new_as_its_arrival,
        replays_neither_supersede_nor_are_superseded,
        an_event_that_is_replayed_supersedes_nothing_and_is_not_superseded,
        an_event_that_is_replayed_joins_no_burst_and_no_event_joins_it,
        deliveries_of_rules_that_did_not_say_so_are_not_superseded,
        of_events_that_come_out_of_order_the_newest_by_time_stays,
        a_burst_is_one_delivery_when_it_has_been_quiet,
        a_burst_ends_with_its_longest_wait_and_with_its_items,
        a_burst_says_what_gathered_in_it_when_it_is_over_too,
        a_burst_goes_on_to_gather_when_the_clock_is_set,
        a_burst_waits_no_longer_than_its_longest_when_the_clock_is_set,
        a_burst_is_over_long_before_its_deadline,
        a_burst_of_which_all_is_seen_has_no_more_bytes_than_are_read_at_once,
        a_burst_stands_in_its_line,
        the_newest_of_a_burst_is_told_by_time_where_the_route_says_so,
        a_burst_is_of_one_set_of_rules,
        a_redelivery_joins_no_burst,
        a_newer_burst_takes_the_place_of_one_that_waits,
        a_dead_one_holds_its_line_up_until_a_person_skips_it,
        only_the_first_of_a_line_holds_it_up,
        what_is_given_up_behind_others_holds_none_of_them_up_whatever_ends_first,
        one_does_not_give_way_to_a_newer_one_that_is_given_up,
        the_replay_of_one_that_holds_its_line_up_takes_its_place,
        what_stands_behind_a_replay_in_place_is_not_freed_by_others,
        without_an_order_key_nothing_is_held_up,
    }
    deadlines::{
        a_deadline_is_kept_with_its_delivery,
        what_is_overdue_is_claimed_whatever_it_waits_for,
        an_overdue_delivery_that_goes_back_stands_behind_the_older_one_again,
        a_deadline_that_cannot_be_told_is_a_dead_letter,
        a_replay_has_no_deadline,
        a_burst_has_the_deadline_of_what_its_steps_see,
    }
    replay::{
        a_replay_from_a_step_takes_over_what_is_known_of_those_before,
        steps_that_are_known_are_told_behind_one_that_is_made,
        a_step_with_a_fresh_key_keeps_it_over_the_next_replay,
        a_replay_with_nothing_left_to_do_has_succeeded,
        what_is_refused_of_many_replays_keeps_none_of_the_others,
        a_replay_under_other_rules_is_owed_by_those,
        a_replay_of_one_that_holds_its_line_up_lets_go_of_it_under_other_rules,
        what_a_person_asked_for_is_kept_with_what_came_of_it,
        which_steps_left_files_is_known,
        deliveries_are_chosen_and_counted_by_what_they_have_in_common,
    }
    cancel::{
        what_is_pending_or_waits_is_canceled_at_once,
        the_line_goes_on_without_one_that_is_canceled,
        what_is_running_is_canceled_when_its_claim_ends,
        what_is_done_to_the_end_has_succeeded_all_the_same,
        one_that_is_to_be_canceled_is_by_a_restart,
        a_burst_is_canceled_while_it_gathers,
        what_is_settled_is_not_canceled,
    }
    pruning::{
        an_event_loses_its_payload_then_its_envelope_then_its_rows,
        a_stretch_goes_on_after_an_event_that_is_gone,
        retention_and_pending_nothing_goes_of_what_is_not_settled,
        an_event_is_there_as_long_as_its_dedup_key_holds,
        what_has_lost_its_payload_is_not_replayed,
        a_burst_that_has_lost_an_event_is_not_replayed,
        a_dead_letter_keeps_its_event_until_it_is_old_or_replayed,
        what_holds_its_line_up_stays_until_a_person_skips_it,
        what_took_the_place_of_another_may_go_before_it,
        what_comes_after_a_restart_is_not_taken_for_what_was_pruned,
        of_too_many_events_the_oldest_go_before_their_time,
        rules_that_nothing_needs_lose_their_text_and_get_it_again,
    }
    limits::{
        who_is_put_off_yields_to_a_newer_one_and_takes_no_place,
        attempts_begin_as_fast_as_their_bucket_allows_in_order_of_arrival,
        a_thousand_that_wait_come_one_by_one,
        no_restart_lets_more_begin,
        a_burst_begins_at_once_and_no_more,
        who_waits_at_one_bucket_keeps_nobody_from_another,
        who_waits_too_long_for_one_that_is_gone_comes_by_itself,
        one_that_must_go_through_two_waits_for_the_later,
        what_is_full_is_handed_on_to_the_oldest,
        what_has_room_again_comes_no_sooner_than_its_rate_allows,
        the_end_of_a_rest_ends_no_pause_that_was_asked_for,
        while_an_instance_rests_nothing_of_it_is_claimed,
        a_clock_that_jumps_neither_lets_all_begin_nor_none,
        buckets_follow_a_clock_that_is_set,
        the_deliveries_of_one_order_key_stay_in_order_at_a_bucket,
        buckets_that_say_nothing_any_more_are_forgotten,
    }
    keeping::{
        values_are_an_instances_own_and_expire,
        a_receipt_is_there_when_it_is_kept,
        a_replay_is_a_new_delivery_with_the_keys_that_are_asked_for,
        an_event_is_replayed_under_other_rules,
        generations_are_needed_until_their_deliveries_settle,
        it_is_known_which_generation_was_in_force_when,
        what_is_told_of_a_generation_is_what_is_told_of_it_again,
    }
}

mod backup;
mod crash;
mod disk;
mod load;
mod power;
mod pruning;
mod reading;
mod rules;
