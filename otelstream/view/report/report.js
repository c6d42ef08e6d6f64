import { echarts } from "nicegui-echart";

const data = JSON.parse(document.getElementById("data").textContent);
const chart = echarts.init(document.getElementById("chart"));
let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

// A key that begins with a colon has JavaScript as its value.
function functions(value) {
  if (Array.isArray(value)) return value.map(functions);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) =>
    key.startsWith(":") ? [key.slice(1), new Function(`return ${each}`)()] : [key, functions(each)]));
}

function draw() {
  document.documentElement.classList.toggle("dark", theme === "dark");
  const series = data.series.map(each => each.id === "resident"
    ? {...each, lineStyle: {...each.lineStyle, color: data.resident[theme]}, itemStyle: {color: data.resident[theme]}} : each);
  chart.setOption(functions({...data[theme], series}), {notMerge: true});
}

document.getElementById("theme").onclick = () => { theme = theme === "dark" ? "light" : "dark"; draw(); };
addEventListener("resize", () => chart.resize());
draw();

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, index) => head.querySelector("button").onclick = () => {
    const down = head.ariaSort !== "descending";
    heads.forEach(each => each.ariaSort = null);
    head.ariaSort = down ? "descending" : "ascending";
    const key = row => row.cells[index].dataset.n === undefined ? row.cells[index].textContent : Number(row.cells[index].dataset.n);
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return (x < y ? 1 : x > y ? -1 : 0) * (down ? 1 : -1);
    });
    table.tBodies[0].append(...rows);
  });
}
document.getElementById("search").oninput = event => {
  const words = event.target.value.toLowerCase();
  for (const row of document.querySelectorAll("#streams tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(words);
};
