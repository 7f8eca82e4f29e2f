//! A badge: the verdict on a run as a small picture, or as data from which shields.io draws one.

use lab_model::visible;
use maud::html;
use serde_json::json;

use super::verdict::Verdict;

/// Height of the picture, pixels.
const HEIGHT: u32 = 20;
/// Space beside a text, pixels.
const SPACE: f64 = 6.0;
/// The longest label, in characters.
const LONGEST_LABEL: usize = 60;

/// The verdict on a run, for a page that shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Badge {
    label: String,
    verdict: Verdict,
}

/// The colour of a verdict: its name for shields.io, and its value in the picture, dark enough for white text.
struct Colour {
    name: &'static str,
    value: &'static str,
}

impl Verdict {
    fn colour(self) -> Colour {
        let (name, value) = match self {
            Self::Passed => ("brightgreen", "#1a7f37"),
            Self::Failed => ("red", "#c4202b"),
            Self::Refused => ("orange", "#b35900"),
            Self::HostUnable => ("yellow", "#80650a"),
            Self::Broken => ("blueviolet", "#7c3aed"),
            Self::Interrupted | Self::Running => ("lightgrey", "#6b7280"),
        };
        Colour { name, value }
    }
}

impl Badge {
    /// A badge with a text on its left.
    pub fn new(label: &str, verdict: Verdict) -> Self {
        Self { label: visible(label, LONGEST_LABEL), verdict }
    }

    /// The data of an endpoint badge (<https://shields.io/badges/endpoint-badge>). `isError` keeps the page that shows it
    /// from giving it another colour.
    pub fn json(&self) -> String {
        let badge = json!({
            "schemaVersion": 1,
            "label": self.label,
            "message": self.verdict.word(),
            "color": self.verdict.colour().name,
            "isError": self.verdict != Verdict::Passed,
        });
        format!("{badge:#}\n")
    }

    /// The picture, complete in one file.
    pub fn svg(&self) -> String {
        let word = self.verdict.word();
        let (left, right) = (width(&self.label) + 2.0 * SPACE, width(word) + 2.0 * SPACE);
        let whole = left + right;
        let told = format!("{}: {word}", self.label);
        let part = |text: &str, from: f64, width: f64| {
            html! {
                text x=(format!("{:.1}", from + width / 2.0)) y="14" textLength=(format!("{:.1}", width - 2.0 * SPACE)) { (text) }
            }
        };
        let svg = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(format!("{whole:.1}")) height=(HEIGHT) role="img" aria-label=(told) {
                title { (told) }
                clipPath id="r" { rect width=(format!("{whole:.1}")) height=(HEIGHT) rx="3" {} }
                g clip-path="url(#r)" {
                    rect width=(format!("{left:.1}")) height=(HEIGHT) fill="#3f4650" {}
                    rect x=(format!("{left:.1}")) width=(format!("{right:.1}")) height=(HEIGHT) fill=(self.verdict.colour().value) {}
                }
                g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" {
                    (part(&self.label, 0.0, left))
                    (part(word, left, right))
                }
            }
        };
        svg.into_string() + "\n"
    }
}

/// About the width of a text in Verdana of 11 pixels; the picture stretches the text to it.
fn width(text: &str) -> f64 {
    text.chars()
        .map(|character| match character {
            'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 3.5,
            'f' | 'r' | 't' | 'I' | ' ' | '-' | '/' | '(' | ')' => 4.6,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 10.2,
            'A'..='Z' => 7.7,
            '\0'..='\u{2ff}' => 6.7,
            _ => 11.0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passed_is_green() {
        for verdict in Verdict::ENDED.into_iter().chain([Verdict::Running]) {
            let badge = Badge::new("lab", verdict);
            let value: serde_json::Value = serde_json::from_str(&badge.json()).expect("JSON");
            assert_eq!(value["schemaVersion"], 1);
            assert_eq!(
                (value["label"].as_str(), value["message"].as_str()),
                (Some("lab"), Some(verdict.word()))
            );
            let green = verdict == Verdict::Passed;
            assert_eq!(value["color"].as_str().expect("a colour").contains("green"), green, "{verdict}");
            assert_eq!(value["isError"], !green);
            assert_eq!(badge.svg().contains(Verdict::Passed.colour().value), green, "{verdict}");
            assert!(badge.svg().contains(&format!(">{}</text>", verdict.word())), "{verdict}");
        }
    }

    #[test]
    fn a_label_is_text_and_short() {
        let badge = Badge::new("</text><script>\u{1b}[31m", Verdict::Failed);
        assert!(
            !badge.svg().contains("<script>") && badge.svg().contains("&lt;script&gt;"),
            "{}",
            badge.svg()
        );
        assert!(!badge.svg().contains('\u{1b}') && !badge.json().contains('\u{1b}'));
        let long = Badge::new(&"x".repeat(10_000), Verdict::Passed);
        assert!(long.svg().len() < 2000);
    }

    #[test]
    fn a_badge_as_data() {
        insta::assert_snapshot!(Badge::new("nightly", Verdict::HostUnable).json(), @r#"
        {
          "schemaVersion": 1,
          "label": "nightly",
          "message": "host-unable",
          "color": "yellow",
          "isError": true
        }
        "#);
    }
}
