//! A replicated file under faults: no violation in sound code, and every planted mistake is found.

use trivet_sim::replication::{run, Options, Report};
use trivet_storage::replication::Bug;

fn options(seed: u64, minutes: u64, bug: Option<Bug>) -> Options {
    Options {
        seed,
        clients: 4,
        minutes,
        sizes: false,
        filled: false,
        rot: false,
        moves: false,
        forks: false,
        fills: false,
        sole: false,
        bug,
        trace: false,
    }
}
fn with_sizes(seed: u64, minutes: u64, bug: Option<Bug>) -> Options {
    Options { sizes: true, ..options(seed, minutes, bug) }
}
fn filled(seed: u64, minutes: u64, bug: Option<Bug>) -> Options {
    Options { filled: true, clients: 2, ..options(seed, minutes, bug) }
}

#[test]
fn blocks_that_rot_are_repaired_from_other_members() {
    let (mut rotten, mut repaired, mut unreadable, mut reads) = (0, 0, 0, 0);
    for seed in 1..=8 {
        let report = run(Options { rot: true, ..options(seed, 3, None) });
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        rotten += report.rotten;
        repaired += report.repaired;
        unreadable += report.unreadable;
        reads += report.reads;
    }
    assert!(rotten > 0 && repaired > 0, "{rotten} rotten, {repaired} repaired");
    assert!(unreadable * 20 < reads, "{unreadable} of {reads} reads failed");
}

#[test]
fn sound_code_holds_and_the_same_seed_gives_the_same_run() {
    let mut total = Report::default();
    // Seeds that showed mistakes, and some others: 2 and 19 copied blocks with wrong places, 12 and 69 a
    // second SEAL round and a retry, 49 a SEAL that came late, 45 a joiner's places taken for lost data, 3 an
    // acknowledgement that overtook the answer to a CHECK.
    for seed in [1, 2, 3, 12, 19, 45, 49, 60, 69, 119, 269, 825] {
        let report = run(options(seed, 4, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --minutes 4 --seed {seed}"
        );
        total.seals += report.seals;
        total.roll_forwards += report.roll_forwards;
        total.promotions += report.promotions;
        total.torn_tails += report.torn_tails;
        total.damages += report.damages;
    }
    assert_eq!(run(options(7, 2, None)).hash, run(options(7, 2, None)).hash, "not deterministic");
    let counts = [total.seals, total.roll_forwards, total.promotions, total.torn_tails, total.damages];
    assert!(counts.iter().all(|c| *c > 0), "{total:?}");
}

#[test]
fn a_file_whose_size_changes_stays_one_file() {
    let mut changes = 0;
    // Before 2026-11-23 all of the first thirty called the file stale. Behind that, 18 carried out a write once more
    // whose extent had been dropped, 8 made the file longer for such a write, and 10 and 57 never got an extent whose
    // members were all removed before one of them had made it.
    for seed in [1, 2, 3, 8, 10, 18, 30, 57] {
        let report = run(with_sizes(seed, 2, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --sizes --minutes 2 --seed {seed}"
        );
        changes += report.size_changes;
    }
    assert!(changes > 1_000, "{changes}");
}

/// An idle extent with many times the bytes of its window is resynced, and no member ever keeps or answers more than the
/// limit. Before 2026-11-29 the joiner kept every block of the resync.
#[test]
fn resync_of_an_idle_and_full_extent_ends_within_the_limits_on_its_records() {
    let (mut promotions, mut compared, mut sent) = (0, 0, 0);
    for seed in 1..=8 {
        let report = run(filled(seed, 3, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --filled --minutes 3 --seed {seed}"
        );
        promotions += report.promotions;
        // Every fourth world keeps nothing, and sends all.
        if seed % 4 != 3 {
            compared += report.compared_bytes;
            sent += report.joined_bytes;
        }
    }
    assert!(promotions > 8, "{promotions}");
    // A member that comes back is sent what it lacks, and little else: 0.31 of what is compared, over 36 seeds.
    assert!(sent > 0 && sent * 5 < compared * 2, "{sent} bytes sent, {compared} compared");
}

fn found_filled(bug: Bug) -> Option<u64> {
    (1..=400).find(|seed| !run(filled(*seed, 3, Some(bug))).violations.is_empty())
}

#[test]
fn bytes_that_a_joiner_kept_and_that_nobody_compared_are_found() {
    assert!(found_filled(Bug::BelieveKept).is_some());
}

#[test]
fn a_piece_that_is_compared_before_a_write_and_sent_after_it_is_found() {
    assert!(found(Bug::CompareUnlocked).is_some());
}

#[test]
fn a_digest_of_a_block_that_cannot_be_read_is_found() {
    let rots = |seed| Options { rot: true, moves: true, ..options(seed, 4, Some(Bug::DigestOfDamage)) };
    assert!((1..=400).any(|seed| !run(rots(seed)).violations.is_empty()));
}

#[test]
fn copies_are_moved_off_one_server_and_another_under_faults() {
    let mut moved_out = 0;
    for seed in 1..=8 {
        let report = run(Options { moves: true, ..options(seed, 2, None) });
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --moves --minutes 2 --seed {seed}"
        );
        moved_out += report.moved_out;
    }
    assert!(moved_out > 8, "{moved_out}");
}

/// Before 2026-11-30 each of these left an extent that its owner did not know on the server that was to hold nothing.
#[test]
fn copies_are_moved_off_while_the_files_size_changes() {
    let moved = |seed, bug| run(Options { moves: true, ..with_sizes(seed, 3, bug) });
    for seed in [185, 208] {
        assert_eq!(
            moved(seed, None).violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --sizes --moves --minutes 3 --seed {seed}"
        );
    }
    assert!((180..=210).any(|seed| !moved(seed, Some(Bug::AllocateUncounted)).violations.is_empty()));
}

/// Before 2026-11-29 a member of an idle extent whose disk had gone back was not noticed until it was the only one left.
#[test]
fn members_of_idle_extents_are_compared_when_they_start_anew() {
    let mut went_back = 0;
    for seed in 1..=12 {
        let report = run(filled(seed, 3, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --filled --minutes 3 --seed {seed}"
        );
        went_back += report.went_back;
    }
    assert!(went_back > 0, "{went_back}");
    assert!((1..=100).any(|seed| !run(filled(seed, 3, Some(Bug::IdleUnchecked))).violations.is_empty()));
}

/// Owners rest in every second world.
#[test]
fn an_owner_that_rests_too_early_or_hears_nothing_at_rest_is_found() {
    let found = |bug| (2..=40).step_by(2).find(|seed| !run(filled(*seed, 2, Some(bug))).violations.is_empty());
    assert_eq!([Bug::RestWithoutCopies, Bug::RestUntold].map(|bug| found(bug).is_some()), [true; 2]);
    let rests: u64 = [2, 4].map(|seed| run(filled(seed, 2, None)).rests).iter().sum();
    assert!(rests > 20, "{rests}");
}

#[test]
fn a_clone_is_what_the_file_was_at_a_moment_and_never_changes() {
    let (mut forks, mut looks) = (0, 0);
    for seed in 1..=12 {
        let (sizes, rot, moves) = (seed % 2 == 0, seed % 3 == 0, seed % 4 == 0);
        let report = run(Options { forks: true, sizes, rot, moves, ..options(seed, 2, None) });
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "seed {seed} with forks, sizes {sizes}, rot {rot}, moves {moves}"
        );
        forks += report.forks;
        looks += report.fork_reads;
    }
    assert!(forks > 50 && looks > 10_000, "{forks} clones, {looks} looks");
}

#[test]
fn a_fork_while_writes_are_open_is_found() {
    let forks = |seed| Options { forks: true, ..options(seed, 2, Some(Bug::ForkBeforeDrained)) };
    assert!((1..=60).any(|seed| !run(forks(seed)).violations.is_empty()));
}

#[test]
fn a_full_disk_takes_what_is_overwritten_and_no_new_blocks() {
    let fills = |seed, bug| run(Options { fills: true, forks: seed % 4 == 0, ..with_sizes(seed, 2, bug) });
    let mut total = Report::default();
    for seed in 1..=8 {
        let report = fills(seed, None);
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --sizes --fills --minutes 2 --seed {seed}, every fourth with --forks"
        );
        total.full_disks += report.full_disks;
        total.refused += report.refused;
        total.overwritten_when_full += report.overwritten_when_full;
    }
    let counts = [total.full_disks, total.refused, total.overwritten_when_full];
    assert!(counts.iter().all(|c| *c > 5), "{total:?}");
    assert!((1..=40).any(|seed| !fills(seed, Some(Bug::FillFullDisks)).violations.is_empty()));
}

#[test]
fn a_write_acknowledged_with_too_few_copies_is_found() {
    assert!(found(Bug::IgnoreMinimum).is_some());
}

/// The first seed that shows the planted mistake.
fn found(bug: Bug) -> Option<u64> {
    (1..=400).find(|seed| !run(options(*seed, 4, Some(bug))).violations.is_empty())
}
fn found_with_sizes(bug: Bug) -> Option<u64> {
    (1..=100).find(|seed| !run(with_sizes(*seed, 2, Some(bug))).violations.is_empty())
}

#[test]
fn activation_before_roll_forward_is_found() {
    assert!(found(Bug::ActivateBeforeRollForward).is_some());
}

#[test]
fn a_read_without_a_check_of_the_other_members_is_found() {
    assert!(found(Bug::ReadWithoutCheck).is_some());
}

#[test]
fn a_write_acknowledged_by_one_member_is_found() {
    assert!(found(Bug::AckAfterFirst).is_some());
}

#[test]
fn a_member_promoted_before_it_has_everything_is_found() {
    assert!(found(Bug::PromoteEarly).is_some());
}

#[test]
fn disks_that_went_back_are_found_out() {
    let mut total = Report::default();
    for seed in 1..=50 {
        let report = run(options(seed, 4, None));
        total.disks_back += report.disks_back;
        total.disks_wiped += report.disks_wiped;
        total.went_back += report.went_back;
        total.checks += report.checks;
        total.checks_without_metad += report.checks_without_metad;
    }
    let counts = [total.disks_back, total.disks_wiped, total.went_back, total.checks, total.checks_without_metad];
    assert!(counts.iter().all(|c| *c > 5), "{total:?}");
}

/// With a single copy, no other replica can tell that its disk went back; and a deposed owner that did not notice finds the disk that
/// it knew.
#[test]
fn the_only_copy_on_a_disk_that_went_back_is_refused_and_so_is_a_deposed_owner() {
    let mut total = Report::default();
    for seed in 1..=8 {
        let report = run(sole(seed, None));
        assert_eq!(
            report.violations,
            Vec::<String>::new(),
            "replay: cargo xtask sim --core replication --sole --minutes 2 --seed {seed}"
        );
        total.deposed += report.deposed;
        total.old_disks += report.old_disks;
        total.distrusted += report.distrusted;
        total.marks += report.marks;
        total.finalized += report.finalized;
    }
    let counts = [total.deposed, total.old_disks, total.distrusted, total.marks, total.finalized];
    assert!(counts.iter().all(|c| *c > 0), "{total:?}");
}

fn sole(seed: u64, bug: Option<Bug>) -> Options {
    Options { sole: true, ..options(seed, 2, bug) }
}
fn found_sole(bug: Bug) -> Option<u64> {
    (1..=400).find(|seed| !run(sole(*seed, Some(bug))).violations.is_empty())
}

#[test]
fn a_start_whose_counter_is_not_the_disks_is_found() {
    assert!(found_sole(Bug::RegisterWithoutCounter).is_some());
}

#[test]
fn a_start_that_is_compared_with_no_mark_is_found() {
    assert!(found_sole(Bug::RegisterWithoutMark).is_some());
}

#[test]
fn a_seal_that_is_answered_before_the_start_is_registered_is_found() {
    assert!(found_sole(Bug::SealBeforeRegistered).is_some());
}

#[test]
fn a_check_by_an_owner_that_was_deposed_is_found() {
    assert!(found_sole(Bug::CheckByOldLease).is_some());
}

#[test]
fn a_check_of_a_start_that_metad_does_not_know_by_an_owner_that_did_not_ask_is_found() {
    assert!(found_sole(Bug::CheckUnproved).is_some());
}

#[test]
fn a_start_that_is_not_shut_is_found() {
    assert!(found(Bug::OpenAfterRestart).is_some());
}

#[test]
fn a_record_that_is_taken_before_its_owner_has_judged_a_check_is_found() {
    assert!(found(Bug::RecordBeforeJudged).is_some());
}

#[test]
fn a_count_that_is_not_compared_is_found() {
    assert!(found(Bug::NoCount).is_some());
}

#[test]
fn a_seal_that_does_not_look_at_witnesses_is_found() {
    assert!(found(Bug::NoWitness).is_some());
}

#[test]
fn a_committed_position_without_its_witnesses_is_found() {
    // Copies that are moved leave extents idle more often: one world in sixty shows it, and one in 150 without.
    let moves = |seed| Options { moves: true, ..options(seed, 4, Some(Bug::StableWithoutWitness)) };
    assert!((1..=300).any(|seed| !run(moves(seed)).violations.is_empty()));
}

#[test]
fn ids_of_writes_in_flight_told_to_a_joiner_are_found() {
    assert!(found(Bug::TellIdsInFlight).is_some());
}

/// Since witnesses (R36) took the place of the comparison of committed positions, such a promotion no longer makes a
/// healthy source look as if it lost data. What it still loses is the ids of finished writes.
#[test]
fn a_promotion_without_the_ids_of_finished_writes_is_found() {
    assert!(found(Bug::PromoteWithoutRecord).is_some());
}

#[test]
fn a_truncate_by_a_late_size_is_found() {
    assert!(found_with_sizes(Bug::TruncateByLateSize).is_some());
}

#[test]
fn a_write_that_comes_back_after_a_truncate_is_found() {
    assert!(found_with_sizes(Bug::DropIds).is_some());
}
