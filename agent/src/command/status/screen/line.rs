//! One line below the head or below a service.

use std::fmt::Display;

use crate::output::{Colour, Paint};

/// A line below what it explains.
pub(super) fn line(label: &str, colour: Colour, paint: Paint, text: &dyn Display) -> String {
    let label = paint.paint(colour, format!("{label}:"));
    format!("  {label} {text}\n")
}
