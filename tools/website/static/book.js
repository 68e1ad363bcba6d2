// Figures of plotly: each takes the place of its picture when it comes near.
"use strict";

const here = document.currentScript.src;
const NEAR = "600px";
const PAUSE = 100; // ms
const LEAST = 520; // pixels of width: below that a figure is scrolled, not squeezed

/** @type {Promise<any> | undefined} */
let library;

/** @returns {Promise<any>} plotly, which comes once, as a script: a page in a folder can run that */
function plotly() {
  library ??= viewsAreThere().then(() => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", here).href;
    script.onload = () => resolve(/** @type {any} */ (globalThis).Plotly);
    script.onerror = () => reject(new Error("plotly.min.js did not arrive"));
    document.head.append(script);
  }));
  return library;
}

/** What a reader can use comes first: plotly waits for the live views, which wait for their models. */
async function viewsAreThere() {
  do {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  } while (document.querySelector("[aria-busy='true']"));
}

/**
 * Draw a figure; the picture stays where that fails, and for print.
 * @param {Element} chart
 */
async function draw(chart) {
  const data = chart.querySelector("script");
  const image = chart.querySelector("img");
  if (!data?.textContent || !image) return;
  const figure = JSON.parse(data.textContent);
  const place = document.createElement("div");
  place.className = "figure";
  place.setAttribute("role", "figure");
  place.setAttribute("aria-label", image.alt);
  try {
    const Plotly = await plotly();
    const own = figure.layout.width ?? 700;
    const width = Math.min(own, Math.max(LEAST, chart.clientWidth));
    chart.append(place);
    await Plotly.newPlot(place, figure.data, { ...figure.layout, width }, { displaylogo: false });
    chart.setAttribute("data-live", "");
  } catch (error) {
    place.remove();
    console.warn("A figure stays a picture:", error);
  }
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((one) => one.isIntersecting)) {
    near.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: NEAR });
for (const chart of document.querySelectorAll(".chart")) near.observe(chart);
