"""The look of the report's page, and the script that sorts its table."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1c1d1f;--soft:#5d6167;--line:#dedfd9;--link:#2b6ca3;
--k0:#2b6ca3;--k1:#c2570c;--k2:#2e7d4f;--k3:#8b4fa8;--k4:#a8324a;--k5:#0f7f86;--k6:#7a6512;--k7:#565b63}
@media(prefers-color-scheme:dark){:root{--page:#16181b;--card:#1f2226;--ink:#e6e6e3;--soft:#a2a7ae;--line:#363a40;
--link:#6aa9dc;--k0:#6aa9dc;--k1:#f0a063;--k2:#6fc690;--k3:#c79be0;--k4:#ee8598;--k5:#5cc6cc;--k6:#d3bb55;--k7:#b3b8c0}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:80rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem;line-height:1.25;margin:.5rem 0 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2rem 0 .25rem}
p{margin:.25rem 0;overflow-wrap:anywhere}
.soft{color:var(--soft);font-size:.9rem}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem;margin:.75rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem;width:100%}
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
tr>th:first-child{position:sticky;left:0;background:var(--card);text-align:left;white-space:normal;font-weight:500;
min-width:9rem;max-width:22rem;overflow-wrap:anywhere}
.part{display:inline-block}
thead th{white-space:normal;font-weight:400;color:var(--soft);vertical-align:bottom}
.baseline>*{font-style:italic}
th button{all:unset;cursor:pointer;color:var(--soft)}
th button:focus-visible,.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
[aria-sort=ascending] button::after{content:" ▲"}
[aria-sort=descending] button::after{content:" ▼"}
.charts{display:grid;gap:.75rem;margin:1rem 0;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem;margin:0;max-width:42rem}
figcaption{font-weight:500}
svg{display:block;width:100%;height:auto;margin-top:.5rem}
svg text{fill:var(--soft);font-size:12px}
@media(max-width:30rem){svg text{font-size:14px}}
.axis{stroke:var(--line)}
.line{fill:none;stroke:var(--k);stroke-width:2}
.bar{stroke:var(--k);stroke-width:1.5}
.band{fill:var(--k);opacity:.1}
circle{fill:var(--k)}
.c0{--k:var(--k0)}.c1{--k:var(--k1)}.c2{--k:var(--k2)}.c3{--k:var(--k3)}
.c4{--k:var(--k4)}.c5{--k:var(--k5)}.c6{--k:var(--k6)}.c7{--k:var(--k7)}
.line.c1,.line.c5{stroke-dasharray:7 3}.line.c2,.line.c6{stroke-dasharray:2 3}
.line.c3,.line.c7{stroke-dasharray:8 3 2 3}
ul{padding:0;list-style:none}
.legend{margin:.5rem 0 0;font-size:.85rem;display:grid;gap:.15rem}
.legend li{display:flex;gap:.5rem;align-items:center}
.legend svg{width:24px;height:10px;margin:0;flex:none}
.legend span,.runs{overflow-wrap:anywhere}
.runs li{margin:.5rem 0}
details{margin:1rem 0}
summary{cursor:pointer;color:var(--link)}
"""

SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const first = column ? "descending" : "ascending";
    const other = column ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach(each => each.setAttribute("aria-sort", each === head ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (column ? x - y : x.localeCompare(y, undefined, {numeric: true}));
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
"""
