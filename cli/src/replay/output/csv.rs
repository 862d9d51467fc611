//! A header and one line for each policy, the columns named as in the JSON.

use super::Report;

pub(crate) fn render(report: &Report) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for policy in &report.policies {
        // Writing to memory, a record of fixed columns: nothing in it can fail.
        let _ = writer.serialize(policy);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}
