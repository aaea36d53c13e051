use proptest::prelude::*;

use super::*;
use crate::protocol::id::UploadId;

/// A peer that always has another full batch.
struct Endless;

impl Content for Endless {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        Poll::Ready(Piece::Bytes(vec![1; 256 << 10].into()))
    }
}

fn lease(stopping: &CancellationToken) -> Lease {
    let leases = Arc::new(Leases::new(stopping.clone()));
    leases.acquire_free(UploadId::from_bytes([7; 16])).unwrap()
}

fn gatherer(content: impl Content + 'static, offset: u64) -> Gatherer {
    Gatherer::new(Box::new(content), (offset, u64::MAX), &lease(&CancellationToken::new()))
}

#[tokio::test]
async fn content_that_never_stalls_is_ended_all_the_same() {
    for ending in [Ending::Superseded, Ending::Stopping] {
        let stopping = CancellationToken::new();
        let lease = lease(&stopping);
        let mut gatherer = Gatherer::new(Box::new(Endless), (0, u64::MAX), &lease);
        if ending == Ending::Superseded { lease.end() } else { stopping }.cancel();
        let batch = gatherer.gather(None).await;
        assert_eq!((batch.ending, batch.bytes), (Some(ending), BATCH_BYTES));
    }
}

/// Pieces that are there at once, and how the content ends.
struct Ready(std::vec::IntoIter<Bytes>, Piece);

impl Content for Ready {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Piece> {
        let end = || std::mem::replace(&mut self.1, Piece::End);
        Poll::Ready(self.0.next().map_or_else(end, Piece::Bytes))
    }
}

#[tokio::test]
async fn small_pieces_are_put_together_and_long_ones_are_not_copied() {
    let long = Bytes::from(vec![7; SMALL_BYTES + 1]);
    let pieces: Vec<_> = (0..100).map(|byte| Bytes::from(vec![byte])).collect();
    let all = [&pieces[..60], std::slice::from_ref(&long), &pieces[60..]].concat();
    let batch = gatherer(Ready(all.clone().into_iter(), Piece::End), 0).gather(None).await;
    assert_eq!(batch.pieces.concat(), all.concat());
    assert_eq!(batch.pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [60, 1025, 40]);
    assert_eq!(batch.pieces[1].as_ptr(), long.as_ptr());
    assert_eq!((batch.bytes, batch.ending), (1125, Some(Ending::Whole)));
}

proptest! {
    #[test]
    fn full_batches_end_where_the_page_cache_takes_them_well_and_no_byte_is_lost(
        offset in 0..1_u64 << 20,
        lengths in prop::collection::vec(prop_oneof![1..2000_usize, 1..600_000_usize], 0..12),
        other_leases in prop_oneof![Just(0_u8), Just(40)],
        ending in prop::sample::select(&[
            Ending::Whole, Ending::Cut, Ending::TooSlow, Ending::Overrun,
        ]),
    ) {
        let leases = Arc::new(Leases::default());
        let id = |number| UploadId::from_bytes([number; 16]);
        let crowd: Vec<_> = (0..=other_leases).map(|it| leases.acquire_free(id(it))).collect();
        let lease = crowd[0].as_ref().unwrap();
        let full_bytes = if other_leases > 0 { SMALL_BATCH_BYTES } else { BATCH_BYTES };
        let mut byte = 0_u8;
        let mut next = || { byte = byte.wrapping_mul(5).wrapping_add(1); byte };
        let mut piece = |length| (0..length).map(|_| next()).collect::<Bytes>();
        let pieces: Vec<_> = lengths.into_iter().map(&mut piece).collect();
        let mut sent = pieces.clone();
        let last = match ending {
            Ending::Cut => Piece::Cut,
            Ending::TooSlow => Piece::TooSlow,
            Ending::Overrun => {
                sent.push(Bytes::from_static(b"too much"));
                Piece::End
            }
            Ending::Whole | Ending::Superseded | Ending::Stopping | Ending::NoRoom => Piece::End,
        };
        let content = Box::new(Ready(sent.into_iter(), last));
        let allowed = (offset, count(&pieces.concat().into()));
        let mut gatherer = Gatherer::new(content, allowed, lease);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut all, mut end) = (Vec::new(), offset);
        loop {
            let batch = runtime.block_on(gatherer.gather(None));
            let bytes = batch.pieces.concat();
            prop_assert_eq!(batch.bytes, count(&bytes.clone().into()));
            all.extend(bytes);
            end = end.saturating_add(batch.bytes);
            if batch.ending.is_some() {
                prop_assert_eq!(batch.ending, Some(ending));
                break;
            }
            prop_assert_eq!(end % ALIGNED_BYTES, 0);
            prop_assert!(batch.bytes.saturating_add(ALIGNED_BYTES) > full_bytes);
        }
        prop_assert_eq!(all, pieces.concat());
    }
}

/// A piece that is told of one millisecond after it is asked for.
#[derive(Default)]
struct Late {
    arrival: Option<Pin<Box<Sleep>>>,
    has_come: bool,
}

impl Content for Late {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let wait = || Box::pin(sleep(Duration::from_millis(1)));
        if self.has_come
            || self.arrival.get_or_insert_with(wait).as_mut().poll(context).is_pending()
        {
            return Poll::Pending;
        }
        self.has_come = true;
        Poll::Ready(Piece::Bytes(Bytes::from_static(b"late")))
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_an_append_is_ended_is_taken() {
    let mut gatherer = gatherer(Late::default(), 0);
    gatherer.end.cancel();
    let batch = gatherer.gather(None).await;
    assert_eq!(
        (batch.ending, batch.pieces.concat().as_slice()),
        (Some(Ending::Superseded), &b"late"[..])
    );
}
