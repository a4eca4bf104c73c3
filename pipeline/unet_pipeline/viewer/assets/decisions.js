// Accept, fix or exclude, with a note: kept in the browser, and exported as the CSV that `check` and `plan` take.

class Decisions {
  constructor(title) {
    this.key = `unet-pipeline view ${title}`;
    try {
      this.all = JSON.parse(localStorage.getItem(this.key)) || {};
    } catch {
      this.all = {}; // a browser that keeps nothing of files
    }
  }

  of(name) {
    return this.all[name] || { decision: "", note: "" };
  }

  set(name, change) {
    this.all[name] = { ...this.of(name), ...change };
    if (!this.all[name].decision && !this.all[name].note) delete this.all[name];
    try {
      localStorage.setItem(this.key, JSON.stringify(this.all));
    } catch {
      // it is in the page, and can be exported
    }
  }

  toCsv() {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = Object.keys(this.all).sort().map((name) => [name, this.all[name].decision, this.all[name].note].map(quote).join(","));
    return ["case,decision,note", ...lines, ""].join("\r\n");
  }

  // how many lines were about cases of this page
  readCsv(text, known) {
    const [head, ...rows] = parseCsv(text.replace(/^\ufeff/, ""));
    const columns = ["case", "decision", "note"].map((name) => (head || []).indexOf(name));
    if (columns[0] < 0 || columns[1] < 0) return 0;
    const taken = rows.filter((row) => known.has(row[columns[0]]));
    for (const row of taken) this.set(row[columns[0]], { decision: row[columns[1]], note: row[columns[2]] || "" });
    return taken.length;
  }
}

function parseCsv(text) {
  const rows = [[]];
  const cells = /(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r?\n|$)/g;
  for (const [all, quoted, plain, end] of text.matchAll(cells)) {
    if (!all) break;
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length);
}
