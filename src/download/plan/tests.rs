//! Any order of arrivals, failures and restarts ends in the right bytes.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
/// All amounts are multiples of it, so that it can be counted how often each was fetched.
const PAGE: u64 = 4096;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_first_claim_is_everything_and_the_next_ones_halve_it() {
    let mut plan = Plan::new(64 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    assert_eq!(first.range, 0..64 * MIB);
    plan.advance(first.id, MIB, at(100));
    let second = plan.claim(at(100), None).unwrap();
    assert_eq!(second.range.end, 64 * MIB);
    assert_eq!(plan.end_of(first.id), Some(second.range.start));
    assert!((32 * MIB..34 * MIB).contains(&second.range.start), "{second:?}");
}

#[test]
fn a_slow_claim_keeps_less_than_a_fast_one_takes() {
    let mut plan = Plan::new(100 * MIB, true, Spans::default());
    let slow = plan.claim(at(0), None).unwrap();
    plan.advance(slow.id, MIB, at(1000));
    // Three times as fast as the claim's one MiB a second.
    let fast = plan.claim(at(1000), Some(3 * MIB)).unwrap();
    assert!((24 * MIB..27 * MIB).contains(&fast.range.start), "{fast:?}");
}

#[test]
fn a_stalled_claim_is_taken_over_whole() {
    let mut plan = Plan::new(10 * MIB, true, Spans::default());
    let stalled = plan.claim(at(0), None).unwrap();
    plan.advance(stalled.id, 3 * MIB, at(100));
    let other = plan.claim(at(3000), None).unwrap();
    assert_eq!(other.range, 3 * MIB..10 * MIB);
    assert_eq!(plan.end_of(stalled.id), None);
    assert!(plan.advance(stalled.id, MIB, at(3001)).is_empty());
    assert_eq!(plan.present_bytes(), 3 * MIB, "what comes too late does not count");
}

#[test]
fn a_claim_that_others_leave_behind_has_stalled_sooner() {
    let mut plan = Plan::new(64 * MIB, true, Spans::default());
    let silent = plan.claim(at(0), None).unwrap();
    plan.advance(silent.id, MIB, at(100));
    let other = plan.claim(at(100), None).unwrap();
    // A while in which nothing moves at all says nothing about one of them.
    let mut quiet = plan.clone();
    quiet.claim(at(700), None).unwrap();
    assert!(quiet.end_of(silent.id).is_some());
    plan.advance(other.id, MIB, at(350));
    let mut limited = plan.clone().taking_turns(true);
    limited.claim(at(700), None).unwrap();
    assert!(limited.end_of(silent.id).is_some());
    let taken = plan.claim(at(700), None).unwrap();
    assert_eq!((taken.range.start, plan.end_of(silent.id)), (MIB, None));
    // The one that has not begun is given more time.
    plan.advance(other.id, MIB, at(1500));
    plan.claim(at(1500), None);
    assert!(plan.end_of(taken.id).is_some());
}

#[test]
fn bytes_that_are_being_written_are_not_taken_over() {
    let mut plan = Plan::new(10 * MIB, true, Spans::default());
    let stalled = plan.claim(at(0), None).unwrap();
    plan.advance(stalled.id, 3 * MIB, at(100));
    assert_eq!(plan.writing(stalled.id, 100), Some(100));
    let other = plan.claim(at(3000), None).unwrap();
    assert!(other.range.start > 3 * MIB && plan.end_of(stalled.id) == Some(other.range.start));
    plan.advance(stalled.id, 100, at(3001));
    assert_eq!(plan.writing(stalled.id, 9 * MIB), Some(other.range.start - 3 * MIB - 100));
    plan.advance(stalled.id, 100, at(3001));
    assert_eq!(plan.claim(at(9000), None).unwrap().range.start, 3 * MIB + 200);
    assert_eq!(plan.writing(stalled.id, 1), None);
}

#[test]
fn claims_do_not_wander_around_before_the_first_byte() {
    let mut plan = Plan::new(MIB, true, Spans::default());
    let mut now = at(0);
    let mut takeovers = 0;
    plan.claim(now, Some(MIB)).unwrap();
    while now < at(60_000) {
        now += at(100);
        takeovers += u32::from(plan.claim(now, Some(100 * MIB)).is_some());
    }
    assert!((2..6).contains(&takeovers), "{takeovers}");
}

#[test]
fn a_claim_that_is_given_back_untouched_goes_to_the_one_before() {
    let mut plan = Plan::new(8 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    let second = plan.claim(at(0), None).unwrap();
    assert_eq!(plan.end_of(first.id), Some(4 * MIB));
    plan.release(second.id, at(10));
    assert_eq!(plan.end_of(first.id), Some(8 * MIB));
}

#[test]
fn what_is_nearly_done_or_small_is_left_alone() {
    let mut plan = Plan::new(10 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    plan.advance(first.id, 9 * MIB, at(1000));
    assert_eq!(plan.claim(at(1000), None), None, "one group is left");
    let mut plan = Plan::new(1000 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    plan.advance(first.id, 900 * MIB, at(900));
    assert_eq!(plan.claim(at(900), None), None, "a tenth of a second is left");
}

#[test]
fn where_requests_bring_their_first_byte_soon_even_little_is_worth_taking() {
    let mut plan = Plan::new(1000 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    plan.answered(at(5));
    plan.advance(first.id, 900 * MIB, at(900));
    let taken = plan.claim(at(900), None).unwrap();
    assert_eq!(taken.range, 950 * MIB..1000 * MIB, "a tenth of a second is left");
    let mut plan = Plan::new(1000 * MIB, true, Spans::default());
    let first = plan.claim(at(0), None).unwrap();
    plan.answered(at(500));
    plan.advance(first.id, 500 * MIB, at(500));
    assert_eq!(plan.claim(at(500), None), None, "another request would take as long");
    plan.answered(at(40));
    assert!(plan.claim(at(500), None).is_some(), "the quickest one counts");
}

#[test]
fn a_group_in_doubt_is_not_in_the_checkpoint() {
    let mut plan = Plan::new(2 * MIB + 5, true, Spans::default());
    let all = plan.claim(at(0), None).unwrap();
    assert_eq!(plan.advance(all.id, MIB + 10, at(1)), [0]);
    assert_eq!(plan.checkpoint(), Spans::from(vec![(MIB, MIB + 10)]));
    plan.verified(0);
    assert_eq!(plan.checkpoint().total(), MIB + 10);
    assert_eq!(plan.advance(all.id, MIB - 10, at(2)), [1]);
    assert_eq!(plan.rejected(1), MIB);
    assert_eq!(plan.first_gap(), Some(MIB));
    assert_eq!(plan.advance(all.id, 5, at(3)), [2]);
    plan.verified(2);
    let again = plan.claim(at(4), None).unwrap();
    assert_eq!(again.range, MIB..2 * MIB);
    assert_eq!(plan.advance(again.id, MIB, at(5)), [1]);
    plan.verified(1);
    assert!(plan.is_complete());
}

#[test]
fn an_empty_file_is_complete() {
    let mut plan = Plan::new(0, true, Spans::default());
    assert!(plan.is_complete());
    assert_eq!(plan.claim(at(0), None), None);
}

/// What may happen; connections and amounts are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Claim { pace: Option<u64> },
    Fetch { who: usize, bytes: u64 },
    Store { who: usize, is_right: bool },
    Fail { who: usize },
    Save,
    Restart,
    Wait { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => proptest::option::of(1..200 * MIB).prop_map(|pace| Step::Claim { pace }),
        6 => (0..8_usize, 1..768_u64)
            .prop_map(|(who, pages)| Step::Fetch { who, bytes: pages * PAGE }),
        6 => (0..8_usize, proptest::bool::weighted(0.9))
            .prop_map(|(who, is_right)| Step::Store { who, is_right }),
        1 => (0..8_usize).prop_map(|who| Step::Fail { who }),
        1 => Just(Step::Save),
        1 => Just(Step::Restart),
        2 => (1..3000_u64).prop_map(|ms| Step::Wait { ms }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// One connection: its claim, and the bytes it has that are not in the file yet.
struct Fetcher {
    id: ClaimId,
    at: u64,
    held: u64,
}

/// The world around a plan.
struct World {
    plan: Plan,
    saved: Spans,
    fetchers: Vec<Fetcher>,
    now: Duration,
    /// How often each page was fetched, and how often it was lost after that.
    fetched: Vec<u32>,
    lost: Vec<u32>,
    /// Right bytes on the disk, by offset.
    disk: Spans,
    has_groups: bool,
}

fn count(pages: &mut [u32], bytes: Range<u64>) {
    let page = |at: u64| usize::try_from(at).unwrap();
    for count in &mut pages[page(bytes.start / PAGE)..page(bytes.end.div_ceil(PAGE))] {
        *count += 1;
    }
}

impl World {
    fn new(length: u64, has_groups: bool) -> Self {
        let plan = Plan::new(length, has_groups, Spans::default());
        let (saved, disk) = Default::default();
        let pages = usize::try_from(length / PAGE + 1).unwrap();
        let (fetched, lost) = (vec![0; pages], vec![0; pages]);
        let now = Duration::ZERO;
        Self { plan, saved, fetchers: Vec::new(), now, fetched, lost, disk, has_groups }
    }

    fn claim(&mut self, pace: Option<u64>) {
        if let Some(granted) = self.plan.claim(self.now, pace) {
            assert!(!granted.range.is_empty());
            self.fetchers.push(Fetcher { id: granted.id, at: granted.range.start, held: 0 });
        }
    }

    fn fetch(&mut self, who: usize, bytes: u64) {
        let Some(fetcher) = self.fetchers.get_mut(who) else { return };
        let from = fetcher.at + fetcher.held;
        match self.plan.end_of(fetcher.id) {
            Some(end) if from < end => {
                let bytes = bytes.min(end - from);
                count(&mut self.fetched, from..from + bytes);
                fetcher.held += bytes;
            }
            _ => {}
        }
    }

    /// The held bytes reach the file; with groups, they are verified there.
    fn store(&mut self, who: usize, is_right: bool) {
        let Some(fetcher) = self.fetchers.get_mut(who) else { return };
        let (range, id) = (fetcher.at..fetcher.at + fetcher.held, fetcher.id);
        fetcher.at = range.end;
        fetcher.held = 0;
        let Some(written) = self.plan.writing(id, range.end - range.start) else {
            count(&mut self.lost, range);
            return;
        };
        count(&mut self.lost, range.start + written..range.end);
        let range = range.start..range.start + written;
        if is_right || !self.has_groups {
            self.disk.insert(range.clone());
        } else {
            self.disk.remove(range.clone());
        }
        for index in self.plan.advance(id, range.end - range.start, self.now) {
            let group = self.plan.group_range(index);
            if self.disk.contains(group.clone()) {
                self.plan.verified(index);
            } else {
                self.plan.rejected(index);
                count(&mut self.lost, group);
            }
        }
        if self.plan.end_of(id).is_none_or(|end| end <= self.fetchers[who].at) {
            self.fail(who);
        }
    }

    fn fail(&mut self, who: usize) {
        if who < self.fetchers.len() {
            let fetcher = self.fetchers.remove(who);
            count(&mut self.lost, fetcher.at..fetcher.at + fetcher.held);
            self.plan.release(fetcher.id, self.now);
        }
    }

    fn restart(&mut self) {
        while !self.fetchers.is_empty() {
            self.fail(0);
        }
        let mut gone = self.plan.present.clone();
        for span in self.saved.iter() {
            gone.remove(span);
        }
        for span in gone.iter() {
            count(&mut self.lost, span);
        }
        self.plan = Plan::new(self.plan.length, self.has_groups, self.saved.clone());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claim { pace } => self.claim(pace),
            Step::Fetch { who, bytes } => self.fetch(who, bytes),
            Step::Store { who, is_right } => self.store(who, is_right),
            Step::Fail { who } => self.fail(who),
            Step::Save => self.saved = self.plan.checkpoint(),
            Step::Restart => self.restart(),
            Step::Wait { ms } => self.now += at(ms),
        }
        self.check();
    }

    fn check(&self) {
        let mut taken = self.plan.present.clone();
        let mut total = taken.total();
        for claim in self.plan.claims.values() {
            taken.insert(claim.at..claim.end);
            total += claim.rest();
        }
        assert_eq!(taken.total(), total, "claims overlap, or have bytes that are present");
        assert!(taken.contains(0..0) && taken.iter().all(|span| span.end <= self.plan.length));
    }

    /// Everything that is left is fetched without failures.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.plan.is_complete() {
                // What some still hold came for nothing.
                while !self.fetchers.is_empty() {
                    self.fail(0);
                }
                return;
            }
            self.claim(None);
            for who in (0..self.fetchers.len()).rev() {
                self.fetch(who, 3 * MIB);
                self.store(who, true);
            }
            self.now += at(10);
            self.check();
        }
        panic!("it does not come to an end: {:?}", self.plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_arrivals_failures_and_restarts_ends_in_the_right_bytes(
        length in 0_u64..20 * MIB,
        has_groups in any::<bool>(),
        steps in steps(),
    ) {
        // A wrong byte is only noticed with groups.
        let mut world = World::new(length, has_groups);
        for step in steps {
            world.step(step);
        }
        world.finish();
        prop_assert!(world.disk.contains(0..length), "not all is on the disk");
        for (page, (fetched, lost)) in world.fetched.iter().zip(&world.lost).enumerate() {
            prop_assert!(*fetched <= lost + 1, "page {page}: {fetched} times, lost {lost} times");
        }
    }
}
