//! On the established path nothing is allocated: sealing and opening trains of every suite,
//! refusals included.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Plane, TUNNEL, Terms, a_to_b, flow_of, side_a, train};
use esp_dataplane::{AeadBackend, AeadBackends, DropReason, OpenSlot};
use ipsec_types::{Encapsulation, EspSuite};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread holds.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn count(taken: usize, given_back: usize) {
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + u64::from(taken > 0)));
    let _ = HELD.try_with(|n| n.set(n.get() + taken as i64 - given_back as i64));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local
// cell without a destructor and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise that `ptr` came from `alloc` with `layout` is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: as for `dealloc` and `alloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        allocations(|| drop(std::hint::black_box(Box::new(7_u8)))),
        1
    );
}

#[test]
fn sealing_and_opening_never_allocates() {
    let ciphers = EspSuite::ALL.into_iter();
    let ciphers = ciphers.flat_map(|suite| AeadBackend::ALL.map(|library| (suite, library)));
    for (suite, library) in ciphers {
        let terms = Terms::new(suite);
        let [mut a, mut b] = [terms.pair_a(), terms.pair_b()].map(|pair| {
            let plane = Plane::by(AeadBackends::all(library));
            plane.install(&pair);
            plane
        });
        let packets: Vec<_> = [1400; 40].into_iter().chain([61]).map(a_to_b).collect();
        let flow = flow_of(&packets[0]);
        let sa = a.pipeline.outbound(TUNNEL, &flow, 1).unwrap();
        let (mut buf, mut seal_slots) = train(&sa, &packets);
        let mut open_slots = Vec::with_capacity(packets.len());
        for round in 0..3 {
            let sealing = allocations(|| {
                a.pipeline.begin_batch(common::NOW);
                let sa = a.pipeline.outbound(TUNNEL, &flow, 41).unwrap();
                assert_eq!(a.pipeline.seal_train(&sa, &mut buf, &mut seal_slots), 41);
            });
            assert_eq!(sealing, 0, "{suite}, {library}, round {round}");
            open_slots.clear();
            for slot in &seal_slots {
                let range = slot.result.clone().unwrap();
                open_slots.push(OpenSlot::new(range.start, range.len(), 0));
            }
            // One packet that fails its ICV: refusing does not allocate either.
            buf[30] ^= 1;
            let opening = allocations(|| {
                b.pipeline.begin_batch(common::NOW);
                let opened =
                    b.pipeline
                        .open_train(&mut buf, &mut open_slots, side_a(), Encapsulation::Udp);
                assert_eq!(opened, 40);
            });
            assert_eq!(opening, 0, "{suite}, {library}, round {round}");
            assert_eq!(open_slots[0].result, Err(DropReason::BadIcv));
            (buf, seal_slots) = train(&sa, &packets);
        }
    }
}

/// 1,000 tunnels, both directions, with the default replay window.
#[test]
fn a_thousand_pairs_fit_into_a_fraction_of_64_mib() {
    // One of each shape; the others differ by a few bytes.
    for suite in [common::GCM256, common::CBC256] {
        let plane = Plane::new();
        let before = HELD.with(Cell::get);
        for i in 0..1000_u32 {
            let mut pair = Terms {
                spi: 0x1_0000 + i * 2,
                ..Terms::new(suite)
            }
            .pair_a();
            pair.connection = ipsec_types::ConnectionId(i);
            plane.install(&pair);
        }
        let held = HELD.with(Cell::get) - before;
        assert!(held < 16 << 20, "{suite}: {held} bytes");
    }
}
