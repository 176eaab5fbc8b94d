/* apr-diff's drawings: layers by roles, tensors by error, metadata and config that differ. */
const decades = steps([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1], v => v < 0.01 ? v.toExponential(0) : String(v));
const compared = row => row.max_diff !== null && row.nonfinite_mismatch === 0;

function logarithmic(word, note, value) {
    const legend = [["same", "0"], ...decades.legend, ["void", "no number: shapes, NaN or infinity differ"], ["alone", "in one model"]];
    return { word, note: note + ", by decades. A frame: outside its bounds.", value: row => !row.alone && compared(row) ? value(row) : null,
             step: v => v === 0 ? "same" : decades.step(v), text: number, legend };
}

const facts_of = row => row.alone ? [["", row.alone]] : [
    ["in B", row.name_b === row.name ? null : row.name_b],
    ["status", row.status],
    ["1 \u2212 cosine", row.cosine_similarity === null ? null : number(1 - row.cosine_similarity)],
    ["largest |a\u2212b|", number(row.max_diff)],
    ["rmse", number(row.rmse)],
    ["SQNR", row.sqnr_db === null ? null : number(row.sqnr_db) + " dB"],
    ["dtypes", row.dtype_a + ", " + row.dtype_b],
    ["shape", row.shape_a.join(" \u00d7 ")],
    ["layout", row.layout === "same" ? null : row.layout],
    ["transform", row.transform],
    ["nonfinite", row.nonfinite_mismatch || null],
    ["norm ratio", row.norm_ratio === null || row.norm_ratio === undefined ? null : number(row.norm_ratio)],
    ["rows of one side", row.rows_left_out || null],
    ["verdict", row.pass ? "within its bounds" : "outside its bounds" + (row.failed?.length ? ": " + row.failed.join(", ") : "")],
].filter(([, value]) => value !== null);

const metrics = [
    logarithmic("1 \u2212 cosine", "1 \u2212 cosine similarity of each tensor",
                row => row.cosine_similarity === null ? null : Math.max(0, 1 - row.cosine_similarity)),
    logarithmic("largest |a\u2212b|", "The largest difference of each tensor", row => row.max_diff),
    logarithmic("rmse", "Root mean square of the differences", row => row.rmse),
];
function alone(names, words, side) {
    const reasons = new Map(data.excused.filter(e => e.side === side).map(e => [e.name, e.reason]));
    return names.map(name => ({ name, alone: words + (reasons.has(name) ? ", excused: " + reasons.get(name) : ""), pass: reasons.has(name) }));
}
const everything = [...data.results, ...alone(data.only_in_a, "only in A", "a"), ...alone(data.only_in_b, "only in B", "b")];
heat_map(document.getElementById("map"), everything, metrics, row => !row.pass, facts_of);

/* Counts of tensors by a number of theirs, in bars: the first is "no difference", the last "no number". */
function count_by(labels, what, colours, step) {
    const title = label => `${what}: ${/^\d/.test(label) ? "from " : ""}${label}`;
    const bars = labels.map((label, i) => ({ label, n: 0, step: colours[i], title: title(label) }));
    bars[0].title = "no difference";
    bars[bars.length - 1].title = "no number";
    for (const row of data.results)
        bars[compared(row) ? step(row) : bars.length - 1].n++;
    return bars;
}

function by_difference() {
    const words = decades.legend.map(([, w]) => w), colours = decades.legend.map(([step]) => step);
    return count_by(["0", ...words, "none"], "largest |a\u2212b|", ["same", ...colours, "void"],
                    row => row.max_diff === 0 ? 0 : 1 + colours.indexOf(decades.step(row.max_diff)));
}

function by_sqnr() {
    const words = ["\u2265 80", "70", "60", "50", "40", "30", "20", "10", "0", "< 0"];
    const step = db => Math.max(1, Math.min(10, 9 - Math.floor(db / 10)));
    const colours = ["same", "q0", "q1", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "void"];
    return count_by(["\u221e", ...words, "none"], "SQNR in dB", colours,
                    row => row.sqnr_db !== null ? step(row.sqnr_db) : row.max_diff === 0 ? 0 : 11);
}

{
    const host = document.getElementById("errors");
    const tools = element("div", { class: "tools" }, host), chart = element("div", {}, host);
    const words = ["largest |a\u2212b|", "SQNR in dB"], bars_of = [by_difference, by_sqnr];
    let which = 0;
    const draw = () => bar_chart(chart, bars_of[which](), "number of tensors by " + words[which]);
    choice(tools, "which error", words, i => { which = i; draw(); });
    drawing(draw);
}

if (data.metadata.differences) {
    const host = document.getElementById("metadata"), m = data.metadata;
    element("h2", {}, host, "Metadata that differs ").append(element("span", { class: "count" }, null, m.differences.length));
    const table = element("table", {}, element("div", { class: "scroll", tabindex: 0 }, host));
    const cells = (row, tag, words) => words.forEach(word => element(tag, { class: "words" }, row, word));
    cells(element("tr", {}, element("thead", {}, table)), "th", ["key", "A", "B"]);
    const body = element("tbody", {}, table);
    const spelled = v => v === undefined ? "\u2013" : show(typeof v === "string" ? v : JSON.stringify(v));
    for (const d of m.differences)
        cells(element("tr", {}, body), "td", [show(d.key), spelled(d.a), spelled(d.b)]);
    for (const key of m.only_in_a)
        cells(element("tr", {}, body), "td", [show(key), "present", "\u2013"]);
    for (const key of m.only_in_b)
        cells(element("tr", {}, body), "td", [show(key), "\u2013", "present"]);
}

if (data.config.length > 0) {
    const host = document.getElementById("metadata");
    element("h2", {}, host, "Config that differs ").append(element("span", { class: "count" }, null, data.config.length));
    const table = element("table", {}, element("div", { class: "scroll", tabindex: 0 }, host));
    const cells = (row, tag, words) => words.forEach(word => element(tag, { class: "words" }, row, word));
    cells(element("tr", {}, element("thead", {}, table)), "th", ["what", "A", "B"]);
    const body = element("tbody", {}, table);
    const side = (value, key) => show((value === null ? "none" : JSON.stringify(value)) + (key === null ? "" : ` (${key})`));
    for (const d of data.config)
        cells(element("tr", {}, body), "td", [show(d.name), side(d.a, d.key_a), side(d.b, d.key_b)]);
}
