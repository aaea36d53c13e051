//! The plan against a server that keeps true what tus promises, over a network that does not.

use proptest::prelude::*;

use super::*;

fn url(number: usize) -> Url {
    Url::parse(&format!("http://host/files/{number}")).unwrap()
}

/// What happens to one exchange.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It succeeds.
    Well,
    /// A part of the content arrives, in 256ths, and no answer.
    Cut(u8),
    /// All of it arrives, and the answer is lost.
    Unheard,
    /// A part arrives, and the server says so.
    Part(u8),
    /// The server lost the upload.
    Lost,
    /// A proxy finds it too large.
    TooLarge,
    /// The process dies, with what it wrote down.
    Died,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Well),
        2 => any::<u8>().prop_map(Fate::Cut),
        1 => Just(Fate::Unheard),
        1 => any::<u8>().prop_map(Fate::Part),
        1 => Just(Fate::Lost),
        1 => Just(Fate::TooLarge),
        2 => Just(Fate::Died),
    ]
}

/// Uploads with their bytes, all of which are their own offset.
#[derive(Default)]
struct Server {
    uploads: Vec<Option<Vec<u64>>>,
    length: Option<u64>,
}

impl Server {
    fn upload(&mut self, url: &Url) -> Option<&mut Vec<u64>> {
        let number: usize = url.path().rsplit('/').next()?.parse().ok()?;
        self.uploads[number].as_mut()
    }

    fn create(&mut self) -> Url {
        self.uploads.push(Some(Vec::new()));
        url(self.uploads.len() - 1)
    }
}

fn share(bytes: u64, of_256: u8) -> u64 {
    bytes * u64::from(of_256) / 256
}

/// One exchange. `false` when there is nothing to do.
fn exchange(plan: &mut Plan, server: &mut Server, written: &mut Option<Url>, fate: Fate) -> bool {
    match plan.next() {
        Step::Wait | Step::Done(_) => return false,
        Step::Create => match fate {
            Fate::Cut(_) => plan.doubt(),
            Fate::Unheard | Fate::Died => {
                server.create();
                plan.doubt();
            }
            Fate::Well | Fate::Part(_) | Fate::Lost | Fate::TooLarge => {
                let url = server.create();
                *written = Some(url.clone());
                plan.created(url, None).unwrap();
            }
        },
        Step::Ask(url) => match (fate, server.upload(&url)) {
            (_, None) => {
                *written = None;
                // The bound is another test's matter.
                let _ = plan.gone();
            }
            (Fate::Cut(_) | Fate::Unheard | Fate::Died, _) => plan.doubt(),
            (_, Some(upload)) => {
                let offset = u64::try_from(upload.len()).unwrap();
                let length = server.length;
                plan.told(offset, length).unwrap();
            }
        },
        Step::Append(append) => {
            if matches!(fate, Fate::Lost) {
                let number: usize = append.url.path().rsplit('/').next().unwrap().parse().unwrap();
                server.uploads[number] = None;
            }
            let Some(upload) = server.upload(&append.url) else {
                *written = None;
                let _ = plan.gone();
                return true;
            };
            let arrived = match fate {
                Fate::Cut(part) | Fate::Part(part) => share(append.bytes, part),
                Fate::TooLarge => 0,
                Fate::Well | Fate::Unheard | Fate::Lost | Fate::Died => append.bytes,
            };
            assert_eq!(append.offset, u64::try_from(upload.len()).unwrap(), "a wrong offset");
            upload.extend(append.offset..append.offset + arrived);
            let offset = append.offset + arrived;
            if !matches!(fate, Fate::TooLarge) && append.tells_length.is_some() {
                server.length = append.tells_length;
            }
            match fate {
                Fate::Well | Fate::Part(_) | Fate::Lost => {
                    plan.appended(&append, offset).unwrap();
                }
                Fate::TooLarge => {
                    plan.too_large(append.bytes);
                }
                Fate::Cut(_) | Fate::Unheard | Fate::Died => plan.doubt(),
            }
        }
    }
    true
}

proptest! {
    #[test]
    fn any_order_of_failures_and_restarts_ends_in_the_right_bytes(
        length in 0_u64..300,
        limit in prop::option::of(1_u64..100),
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let mut server = Server { length: Some(length), ..Server::default() };
        let (mut written, mut fates) = (None, fates.into_iter());
        let mut plan = Plan::new(Extent::Whole(length), None, limit);
        for _ in 0..2000 {
            let fate = fates.next().unwrap_or(Fate::Well);
            if matches!(fate, Fate::Lost) {
                plan.renewals = 0;
            }
            let is_going_on = exchange(&mut plan, &mut server, &mut written, fate);
            if matches!(fate, Fate::Died) {
                plan = Plan::new(Extent::Whole(length), written.clone(), limit);
            } else if !is_going_on {
                break;
            }
        }
        let Step::Done(url) = plan.next() else { panic!("not done: {plan:?}") };
        let expected: Vec<u64> = (0..length).collect();
        prop_assert_eq!(server.upload(&url), Some(&mut expected.clone()));
    }

    #[test]
    fn an_end_that_is_known_late_is_told(
        pieces in prop::collection::vec(0_u64..50, 1..10),
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let mut server = Server::default();
        let (mut written, mut available) = (None, 0);
        // An upload that is lost, or a process that dies, has lost what cannot be read again.
        let fates: Vec<Fate> =
            fates.into_iter().filter(|fate| !matches!(fate, Fate::Lost | Fate::Died)).collect();
        let mut fates = fates.into_iter();
        let mut plan = Plan::new(Extent::Open(0), None, None);
        for piece in pieces {
            available += piece;
            plan.extend(Extent::Open(available));
            while exchange(&mut plan, &mut server, &mut written, fates.next().unwrap_or(Fate::Well)) {}
            prop_assert_eq!(plan.next(), Step::Wait);
        }
        plan.extend(Extent::Ended { length: available, is_told: false });
        while exchange(&mut plan, &mut server, &mut written, fates.next().unwrap_or(Fate::Well)) {}
        let Step::Done(url) = plan.next() else { panic!("not done: {plan:?}") };
        prop_assert_eq!(server.length, Some(available));
        let expected: Vec<u64> = (0..available).collect();
        prop_assert_eq!(server.upload(&url), Some(&mut expected.clone()));
    }

    #[test]
    fn parts_are_all_of_it_and_none_is_short(
        length in 0_u64..1_000_000,
        parts in 0_u64..20,
        least in 0_u64..100_000,
    ) {
        let split = split(length, parts, least);
        prop_assert_eq!(split[0].0, 0);
        prop_assert_eq!(split[split.len() - 1].1, length);
        prop_assert!(split.windows(2).all(|two| two[0].1 == two[1].0));
        prop_assert!(split.len() == 1 || split.iter().all(|(begin, end)| end - begin >= least));
        prop_assert!(split.len() <= usize::try_from(parts.max(1)).unwrap());
    }
}

#[test]
fn what_cannot_be_is_refused_and_asked_again() {
    let mut plan = Plan::new(Extent::Whole(10), Some(url(0)), None);
    assert_eq!(plan.told(11, None), Err(Impossible::Beyond { offset: 11, available: 10 }));
    assert_eq!(plan.told(5, Some(11)), Err(Impossible::OtherLength { told: 11, length: 10 }));
    assert_eq!(plan.next(), Step::Ask(url(0)));
    plan.told(5, Some(10)).unwrap();
    let Step::Append(append) = plan.next() else { panic!("{plan:?}") };
    assert_eq!((append.offset, append.bytes), (5, 5));
    for wrong in [4, 11] {
        assert!(plan.appended(&append, wrong).is_err());
        assert_eq!(plan.next(), Step::Ask(url(0)));
    }
}

#[test]
fn an_upload_that_vanishes_again_and_again_is_given_up() {
    let mut plan = Plan::new(Extent::Whole(10), Some(url(0)), None);
    for number in 1..=3 {
        plan.gone().unwrap();
        assert_eq!(plan.next(), Step::Create);
        plan.created(url(number), None).unwrap();
    }
    assert_eq!(plan.gone(), Err(Impossible::Vanishes));
}

#[test]
fn an_upload_that_is_complete_when_it_is_created_is_done() {
    let mut plan = Plan::new(Extent::Whole(10), None, None);
    plan.created(url(0), Some(10)).unwrap();
    assert_eq!(plan.next(), Step::Done(url(0)));
}

#[test]
fn requests_become_smaller_down_to_a_bound() {
    let mut plan = Plan::new(Extent::Whole(10 << 30), Some(url(0)), None);
    let mut sizes = Vec::new();
    loop {
        plan.told(0, None).unwrap();
        let Step::Append(append) = plan.next() else { panic!("{plan:?}") };
        sizes.push(append.bytes >> 20);
        if !plan.too_large(append.bytes) {
            break;
        }
    }
    assert_eq!(sizes, [10_240, 64, 32, 16, 8, 4, 2, 1]);
}
