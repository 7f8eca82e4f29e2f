//! Licences by their texts, for components that declare none. Go modules do not.

use crate::LicenceText;

/// A phrase that only texts of this licence have, in lower case and with single spaces.
const PHRASES: [(&str, &str); 9] = [
    ("apache license version 2.0", "Apache-2.0"),
    ("licensed under the apache license, version 2.0", "Apache-2.0"),
    ("mozilla public license version 2.0", "MPL-2.0"),
    ("mozilla public license, version 2.0", "MPL-2.0"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    ("permission to use, copy, modify, and distribute this software for any purpose", "ISC"),
    ("permission to use, copy, modify, and/or distribute this software for any purpose", "ISC"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
    ("cc0 1.0 universal", "CC0-1.0"),
];
const BSD: &str = "redistribution and use in source and binary forms";
/// The third clause, as most name it.
const ENDORSEMENT: [&str; 2] = ["neither the name", "may not be used to endorse"];

/// The SPDX expression of all licences that the texts are, or nothing if there is one that is unknown.
pub fn expression(texts: &[LicenceText]) -> Option<String> {
    let mut found: Vec<&str> = Vec::new();
    for text in texts.iter().filter(|text| !is_notice(&text.file)) {
        let known = licences(&text.text);
        if known.is_empty() {
            return None;
        }
        found.extend(known);
    }
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then(|| found.join(" AND "))
}

/// A notice names authors, and is no licence.
fn is_notice(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file).to_lowercase();
    name.starts_with("notice") || name.starts_with("copyright")
}

fn licences(text: &str) -> Vec<&'static str> {
    let words: Vec<_> = text
        .split(|c: char| c.is_whitespace() || c == '*' || c == '#')
        .filter(|word| !word.is_empty())
        .collect();
    let text = words.join(" ").to_lowercase();
    let mut found: Vec<_> =
        PHRASES.iter().filter(|(phrase, _)| text.contains(phrase)).map(|(_, licence)| *licence).collect();
    // "ALL ADVERTISING MATERIALS" is the fourth clause, which is another licence.
    if text.contains(BSD) && !text.contains("all advertising materials") {
        let third = ENDORSEMENT.iter().any(|phrase| text.contains(phrase));
        found.push(if third { "BSD-3-Clause" } else { "BSD-2-Clause" });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Option<String> {
        let texts =
            texts.iter().map(|(file, text)| LicenceText { file: (*file).into(), text: (*text).into() });
        expression(&texts.collect::<Vec<_>>())
    }

    #[test]
    fn texts_are_recognised_across_line_ends() {
        let apache = "                 Apache License\n           Version 2.0, January 2004";
        let bsd = "Redistribution and use in source and\n# binary forms, with or without";
        assert_eq!(of(&[("LICENSE", apache)]).as_deref(), Some("Apache-2.0"));
        assert_eq!(of(&[("LICENSE", bsd)]).as_deref(), Some("BSD-2-Clause"));
        let third = format!("{bsd}\nNeither the name of Google");
        assert_eq!(
            of(&[("LICENSE", &third), ("a/LICENSE", apache)]).as_deref(),
            Some("Apache-2.0 AND BSD-3-Clause")
        );
    }

    #[test]
    fn an_unknown_text_makes_the_whole_unknown_and_a_notice_says_nothing() {
        let mit = "Permission is hereby granted, free of charge, to any person obtaining a copy";
        assert_eq!(of(&[("LICENSE", mit), ("NOTICE", "by many")]).as_deref(), Some("MIT"));
        assert_eq!(of(&[("LICENSE", mit), ("COPYING", "as you like")]), None);
        assert_eq!(of(&[("NOTICE", "by many")]), None);
        let four = "Redistribution and use in source and binary forms … All advertising materials";
        assert_eq!(of(&[("LICENSE", four)]), None);
    }
}
