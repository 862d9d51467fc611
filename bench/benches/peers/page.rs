//! The same figures, to be looked at: one page with a bar for each of those who took part.

use std::fmt::Write as _;
use std::path::Path;

use curfew_bench::Result;
use curfew_bench::report::thousands;
use plotters::prelude::*;
use serde_json::Value;

/// Writes the page.
pub(crate) fn write(file: &Path, figures: &Value) -> Result<()> {
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Curfew beside its peers</title>\
         <style>body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}svg{width:100%;height:auto}</style>\
         <h1>Curfew beside its peers</h1><p>Shorter is better. One run, everyone in turn, medians.</p>",
    );
    let list = |name: &str| figures[name].as_array().cloned().unwrap_or_default();
    for mix in list("mix") {
        let rows = mix["rows"].as_array().cloned().unwrap_or_default();
        let bars = bars(&rows, |row| row["ns"]["median"].as_f64());
        section(&mut page, &format!("ns per step: {}", mix["heading"].as_str().unwrap_or_default()), &bars)?;
    }
    let curves = curves(&list("grows"));
    if !curves.is_empty() {
        write!(page, "<h2>ns per step as tables grow</h2>{}", lines(&curves)?)?;
    }
    let crowd = list("crowd");
    section(
        &mut page,
        "ms of CPU to forget the sessions that fell due together",
        &bars(&crowd, |row| row["cpu_ms"].as_f64()),
    )?;
    section(
        &mut page,
        "p99.9 of a touch of others meanwhile, ns",
        &bars(&crowd, |row| row["meanwhile"]["p999"].as_f64()),
    )?;
    section(&mut page, "bytes per session", &bars(&list("memory"), |row| row["bytes_per_session"].as_f64()))?;
    std::fs::write(file, page).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn bars(rows: &[Value], figure: impl Fn(&Value) -> Option<f64>) -> Vec<(String, f64)> {
    let bar = |row: &Value| Some((row["who"].as_str()?.to_owned(), figure(row)?));
    rows.iter().filter_map(bar).collect()
}

fn section(page: &mut String, heading: &str, bars: &[(String, f64)]) -> Result<()> {
    if !bars.is_empty() {
        write!(page, "<h2>{heading}</h2>{}", chart(bars)?)?;
    }
    Ok(())
}

fn chart(bars: &[(String, f64)]) -> Result<String> {
    let mut svg = String::new();
    let most = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    {
        let area = SVGBackend::with_string(&mut svg, (900, 40 * bars.len() as u32 + 20)).into_drawing_area();
        let wrong = |error: &dyn std::fmt::Display| format!("drawing: {error}");
        for (nth, (name, value)) in bars.iter().enumerate() {
            let top = nth as i32 * 40 + 10;
            let length = (value / most * 500.0) as i32;
            let colour = if name.starts_with("Curfew") { RGBColor(30, 110, 190) } else { RGBColor(160, 160, 160) };
            area.draw(&Rectangle::new([(260, top), (260 + length.max(1), top + 26)], colour.filled()))
                .map_err(|error| wrong(&error))?;
            let style = ("sans-serif", 18).into_font().color(&BLACK);
            area.draw(&Text::new(name.clone(), (10, top + 5), style.clone())).map_err(|error| wrong(&error))?;
            area.draw(&Text::new(format!("{value:.0}"), (270 + length, top + 5), style))
                .map_err(|error| wrong(&error))?;
        }
        area.present().map_err(|error| wrong(&error))?;
    }
    Ok(svg)
}

/// For each of those who took part, sessions and nanoseconds per step.
fn curves(sizes: &[Value]) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut curves: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for size in sizes {
        for row in size["rows"].as_array().into_iter().flatten() {
            let point = size["sessions"].as_f64().zip(row["ns"]["median"].as_f64());
            let (Some(point), Some(who)) = (point, row["who"].as_str()) else { continue };
            match curves.iter_mut().find(|(name, _)| name == who) {
                Some((_, points)) => points.push(point),
                None => curves.push((who.to_owned(), vec![point])),
            }
        }
    }
    curves
}

fn lines(curves: &[(String, Vec<(f64, f64)>)]) -> Result<String> {
    let wrong = |error: &dyn std::fmt::Display| format!("drawing: {error}");
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (least, most) =
        points().fold((f64::MAX, 1.0_f64), |(least, most), point| (least.min(point.0), most.max(point.0)));
    let highest = points().map(|point| point.1).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 460)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((least..most.max(least * 10.0)).log_scale(), 0.0..highest * 1.1)
            .map_err(|error| wrong(&error))?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh()
            .x_desc("sessions")
            .y_desc("ns")
            .x_label_formatter(&|sessions| thousands(*sessions as u64));
        mesh.draw().map_err(|error| wrong(&error))?;
        let colours = [RGBColor(30, 110, 190), RGBColor(120, 180, 230), RGBColor(90, 90, 90), RGBColor(210, 120, 40)];
        for ((name, points), colour) in curves.iter().zip(colours.into_iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(3)).point_size(4);
            let drawn = chart.draw_series(line).map_err(|error| wrong(&error))?;
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)));
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.filled()).border_style(BLACK);
        labels.draw().map_err(|error| wrong(&error))?;
        area.present().map_err(|error| wrong(&error))?;
    }
    Ok(svg)
}
