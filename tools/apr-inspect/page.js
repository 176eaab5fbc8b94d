/* apr-inspect's drawings: layers by roles, the values of each role, where the bytes are. */
const has_values = row => row.rms !== undefined && row.rms !== null;
const peak = row => Math.max(Math.abs(row.min), Math.abs(row.max));

/* A tensor against the others of its role: the factor between its rms and their median. */
function siblings() {
    const median = new Map();
    for (const role of grid_of(data.tensors).roles) {
        const rows = [...role.cells.values()].flat().filter(has_values);
        const rms = rows.map(row => row.rms).sort((a, b) => a - b);
        rows.forEach(row => median.set(row, rms[rms.length >> 1]));
    }
    return row => {
        const middle = median.get(row) ?? row.rms;
        return row.rms === middle ? 1 : row.rms === 0 || middle === 0 ? Infinity : Math.max(row.rms / middle, middle / row.rms);
    };
}

/* Eight bounds, evenly by factor, over the rms of the matrices (norms are far larger and would take all colours but two), which is taken
 * for a factor of 4 at least: noise is no pattern. */
function rms_bounds() {
    const rows = data.tensors.filter(row => has_values(row) && row.rms > 0), matrices = rows.filter(row => row.shape.length > 1);
    const all = (matrices.length ? matrices : rows).map(row => Math.log(row.rms));
    const low = all.reduce((a, b) => Math.min(a, b), Infinity), high = all.reduce((a, b) => Math.max(a, b), -Infinity);
    const middle = (low + high) / 2, half = Math.max(high - low, Math.log(4)) / 2;
    return [1, 2, 3, 4, 5, 6, 7, 8].map(i => all.length ? Math.exp(middle + half * (2 * i / 9 - 1)) : i);
}

function metric_of(word, note, bounds, value, spell) {
    const by = steps(bounds, spell);
    return { word, note, value: row => has_values(row) ? value(row) : null, text: spell, step: v => v === 0 ? "same" : by.step(v),
             legend: [["same", "0"], ...by.legend, ["void", "no finite values"]] };
}

const times = v => v === Infinity ? "\u221e" : "\u00d7 " + number(v);
const apart = siblings();
const metrics = [
    metric_of("rms", "Root mean square of the values. A frame: NaN or infinity inside.", rms_bounds(),
              row => row.rms, v => number(Number(v.toPrecision(2)))),
    metric_of("outliers", "The largest |value| over the rms: 4 is usual, far more means single values that quantize badly.",
              [4, 6, 8, 12, 16, 24, 32, 64], row => row.rms === 0 ? 0 : peak(row) / row.rms, times),
    metric_of("unlike its siblings", "The factor between the rms and its median over the layers of that role.",
              [1.05, 1.1, 1.2, 1.35, 1.5, 2, 3, 5], apart, times),
    metric_of("kurtosis", "Excess kurtosis: 0 is a normal distribution, more has heavier tails.", [-0.5, 0.5, 1, 2, 5, 10, 30, 100],
              row => row.kurtosis ?? 0, number),
    metric_of("zeros", "The share of values that are exactly 0.", [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95],
              row => row.count ? row.zero_count / row.count : 0, v => number(100 * v) + " %"),
];

const value_facts = row => [
    ["rms", number(row.rms)],
    ["mean \u00b1 std", number(row.mean) + " \u00b1 " + number(row.std)],
    ["min, max", number(row.min) + ", " + number(row.max)],
    ["largest / rms", row.rms === 0 ? "\u2013" : times(peak(row) / row.rms)],
    ["1 %, 50 %, 99 %", [row.p1, row.p50, row.p99].map(number).join(", ")],
    ["kurtosis", number(row.kurtosis)],
    ["zeros", row.zero_count],
];
const facts_of = row => [
    ["dtype", row.dtype], ["shape", row.shape.join(" \u00d7 ")], ["size", bytes(row.size)],
    ...(has_values(row) ? value_facts(row) : []),
    ...[["NaN", row.nan_count], ["infinite", row.inf_count]].filter(([, n]) => n > 0),
];

heat_map(document.getElementById("map"), data.tensors, metrics, row => row.nan_count + row.inf_count > 0, facts_of);

/* ---- the values of each role ---- */

/* The histograms of tensors, each over its own range, put together over the range of all. */
function merged(rows, bins) {
    const low = rows.reduce((a, row) => Math.min(a, row.min), Infinity), high = rows.reduce((a, row) => Math.max(a, row.max), -Infinity);
    const sum = new Array(bins).fill(0);
    for (const row of rows)
        row.histogram.forEach((n, i) => {
            const at = row.min + (i + .5) * (row.max - row.min) / row.histogram.length;
            sum[high > low ? Math.min(bins - 1, Math.floor((at - low) / (high - low) * bins)) : bins >> 1] += n;
        });
    return { low, high, sum };
}

function histogram(into, h) {
    const svg = shape("svg", { viewBox: "0 0 192 56", width: "100%", class: "bars", role: "img",
                               "aria-label": `histogram of values from ${number(h.low)} to ${number(h.high)}` }, into);
    const most = Math.log1p(Math.max(...h.sum)), each = 192 / h.sum.length;
    h.sum.forEach((n, i) => {
        const tall = most > 0 ? Math.log1p(n) / most * 54 : 0;
        if (n > 0)
            shape("rect", { x: i * each + .25, y: 55 - tall, width: each - .5, height: tall + 1 }, svg);
    });
}

function sparkline(into, values) {
    const svg = shape("svg", { viewBox: "0 0 192 24", width: "100%", role: "img", "aria-label": "rms by layer" }, into);
    const low = Math.min(...values), high = Math.max(...values), x = i => 2 + i * 188 / Math.max(1, values.length - 1);
    const y = v => high > low ? 21 - (v - low) / (high - low) * 18 : 12;
    shape("polyline", { points: values.map((v, i) => `${x(i)},${y(v)}`).join(" "), class: "line" }, svg);
}

{
    const host = document.getElementById("values"), grid = grid_of(data.tensors), most = 120;
    const all = [...grid.roles, ...grid.outside]
        .map(line => ({ label: line.label, rows: [...line.cells.values()].flat().filter(has_values) }))
        .filter(line => line.rows.length);
    const lines = all.slice(0, most);
    const note = "A histogram spans all values of a role, its counts on a logarithmic scale; the line is the rms by layer.";
    element("p", { class: "note" }, host, note);
    const cards = element("div", { class: "cards" }, host);
    if (all.length > most)
        element("p", { class: "note" }, host, `and ${all.length - most} more`);
    for (const line of lines) {
        const card = element("div", { class: "card" }, cards), h = merged(line.rows, 32);
        element("h3", { class: "name" }, card, show(line.label));
        histogram(card, h);
        element("p", {}, card, `${number(h.low)} to ${number(h.high)}` + (line.rows.length > 1 ? `, ${line.rows.length} tensors` : ""));
        if (line.rows.length > 1) {
            const rms = line.rows.map(row => row.rms);
            sparkline(card, rms);
            element("p", {}, card, `rms ${number(Math.min(...rms))} to ${number(Math.max(...rms))}`);
        } else {
            element("p", {}, card, `rms ${number(line.rows[0].rms)}`);
        }
    }
}

/* ---- where the bytes are ---- */

/* Rows along the shorter side, each as many items as keep its tiles nearest to squares. */
function squarify(items, x, y, w, h, put) {
    let left = items.reduce((sum, item) => sum + item.size, 0);
    for (let i = 0; i < items.length && left > 0;) {
        const side = Math.min(w, h), scale = w * h / left;
        const worst = (sum, small) => {
            const thick = sum * scale / side, long = size => size * scale / thick;
            return Math.max(long(items[i].size) / thick, thick / long(small));
        };
        let n = 1, sum = items[i].size;
        for (; i + n < items.length; n++) {
            const next = items[i + n].size;
            if (worst(sum + next, next) > worst(sum, items[i + n - 1].size))
                break;
            sum += next;
        }
        const thick = sum * scale / side;
        for (let k = 0, at = 0; k < n; k++) {
            const long = items[i + k].size * scale / thick;
            w >= h ? put(items[i + k], x, y + at, thick, long) : put(items[i + k], x + at, y, long, thick);
            at += long;
        }
        w >= h ? (x += thick, w -= thick) : (y += thick, h -= thick);
        left -= sum;
        i += n;
    }
}

{
    const host = document.getElementById("sizes"), grid = grid_of(data.tensors), dtypes = new Map();
    const colour = new Map([...data.dtypes].sort((a, b) => b.bytes - a.bytes).map((d, i) => [d.dtype, "d" + i % 8]));
    for (const line of [...grid.roles, ...grid.outside])
        for (const row of [...line.cells.values()].flat()) {
            const group = dtypes.get(row.dtype) ?? { dtype: row.dtype, size: 0, roles: new Map() };
            const role = group.roles.get(line) ?? { label: line.label, dtype: row.dtype, size: 0, n: 0 };
            dtypes.set(row.dtype, group);
            group.roles.set(line, role);
            role.size += row.size;
            role.n++;
            group.size += row.size;
        }
    const legend = element("ul", { class: "legend" }, host), place_for = element("div", { style: "margin-bottom:.75rem" }, host);
    const by_size = list => [...list].filter(item => item.size > 0).sort((a, b) => b.size - a.size);
    const groups = by_size(dtypes.values());
    for (const group of groups)
        element("i", { class: colour.get(group.dtype) }, element("li", {}, legend)).after(`${group.dtype} ${bytes(group.size)}`);

    const draw = () => {
        place_for.replaceChildren();
        const width = place_for.clientWidth, height = Math.round(Math.max(220, Math.min(420, width * .4)));
        const words = "tiles as large as the bytes of each role, coloured by dtype";
        const svg = shape("svg", { width, height, role: "group", "aria-label": words }, place_for);
        const tile = (item, x, y, w, h) => {
            const named = `${show(item.label)}: ${item.dtype}, ${bytes(item.size)}`;
            const e = shape("rect", { x, y, width: Math.max(0, w), height: Math.max(0, h), class: "tile " + colour.get(item.dtype),
                                      role: "img", "aria-label": named }, svg);
            tips(e, () => item.label, () => [["dtype", item.dtype], ["size", bytes(item.size)], ["tensors", item.n]]);
            const room = Math.floor((w - 10) / 6.6), label = show(item.label), cut = label.slice(0, room - 1) + "\u2026";
            if (h < 18 || room < 4)
                return;
            shape("text", { x: x + 5, y: y + 14, class: "tile-text" }, svg, label.length > room ? cut : label);
            if (h >= 34)
                shape("text", { x: x + 5, y: y + 28, class: "tile-text" }, svg, bytes(item.size));
        };
        squarify(groups, 0, 0, width, height, (group, x, y, w, h) => squarify(by_size(group.roles.values()), x, y, w, h, tile));
    };
    drawing(draw);
}
