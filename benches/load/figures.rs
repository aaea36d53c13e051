//! What is measured.

use std::collections::BTreeMap;

/// A thing that is measured. MB and GB are 10^6 and 10^9 bytes, KiB and MiB powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    MbPerS,
    PerS,
    P50Ms,
    P99Ms,
    CpuPerGb,
    CpuUs,
    PeakMib,
    FinalMs,
    OpenedS,
    KibEach,
    Served,
    SmallEmpty,
    SmallFull,
    HeadEmpty,
    HeadFull,
    GetEmpty,
    GetFull,
    SmallFullP50Ms,
    SmallFullP99Ms,
    HeadFullP50Ms,
    HeadFullP99Ms,
    GetFullP50Ms,
    GetFullP99Ms,
}

impl Measure {
    /// As the head of a table's column.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::MbPerS => "MB/s",
            Self::PerS => "1/s",
            Self::P50Ms => "p50 ms",
            Self::P99Ms => "p99 ms",
            Self::CpuPerGb => "server CPU s/GB",
            Self::CpuUs => "server CPU µs each",
            Self::PeakMib => "peak MiB",
            Self::FinalMs => "final POST ms",
            Self::OpenedS => "opened in s",
            Self::KibEach => "KiB each",
            Self::Served => "served",
            Self::SmallEmpty => "small/s, empty",
            Self::SmallFull => "small/s, full",
            Self::HeadEmpty => "HEAD/s, empty",
            Self::HeadFull => "HEAD/s, full",
            Self::GetEmpty => "GET/s, empty",
            Self::GetFull => "GET/s, full",
            Self::SmallFullP50Ms => "small p50 ms, full",
            Self::SmallFullP99Ms => "small p99 ms, full",
            Self::HeadFullP50Ms => "HEAD p50 ms, full",
            Self::HeadFullP99Ms => "HEAD p99 ms, full",
            Self::GetFullP50Ms => "GET p50 ms, full",
            Self::GetFullP99Ms => "GET p99 ms, full",
        }
    }
}

/// What one run measured.
pub(crate) type Figures = BTreeMap<Measure, f64>;
