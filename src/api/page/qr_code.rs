//! A QR code as SVG, for a payer who scans it with a wallet on another device.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around a code (ISO/IEC 18004).
const QUIET_ZONE: usize = 4;

/// The code of this text at level M, black on white in every colour scheme; `None` if the text is too
/// long for one.
pub(super) fn svg(content: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(content, EcLevel::M).ok()?;
    let width = code.width();
    let side = width.saturating_add(QUIET_ZONE.saturating_mul(2));
    let colors = code.to_colors();
    let mut dark = String::with_capacity(colors.len().saturating_mul(4));
    for (y, row) in colors.chunks(width.max(1)).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, at)| **at == Color::Dark) {
            let (x, y) = (x.saturating_add(QUIET_ZONE), y.saturating_add(QUIET_ZONE));
            // Writing to a string does not fail.
            let _ = write!(dark, "M{x} {y}h1v1h-1z");
        }
    }
    Some(format!(
        "<svg class=\"code\" id=\"code\" viewBox=\"0 0 {side} {side}\" role=\"img\" \
         aria-label=\"二维码 QR code\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{dark}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Level M of 32 bytes is version 3 (29 modules), and nothing dark is in the quiet zone.
    #[test]
    fn a_code_has_its_quiet_zone() {
        let svg = svg("https://pay.example/a/0123456789").unwrap();
        assert!(svg.contains("viewBox=\"0 0 37 37\""), "{svg}");
        let (_, dark) = svg.rsplit_once(" d=\"").unwrap();
        let places = dark.split('M').skip(1).map(|place| {
            let (x, rest) = place.split_once(' ').unwrap();
            let (y, _) = rest.split_once('h').unwrap();
            [x.parse::<usize>().unwrap(), y.parse().unwrap()]
        });
        let inside = 4..33;
        assert!(places.flatten().all(|at| inside.contains(&at)));
        assert!(
            dark.starts_with("M4 4h1v1h-1zM5 4"),
            "a finder in the corner"
        );
    }

    /// What fits no code is not drawn.
    #[test]
    fn a_text_that_is_too_long_has_no_code() {
        assert_eq!(svg(&"a".repeat(3_000)), None);
    }
}
