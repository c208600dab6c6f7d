// The working form of a saved widget: in every `figure.minidiff` it takes the film strip's place.
// It needs no library and makes no request, and any number of widgets live on a page.

const STYLE = `
  figure.minidiff { margin: 1em 0; max-width: 976px; }
  figure.minidiff > div { background: white; color: #222; border-radius: 6px; padding: 8px;
    font: 15px/1.5 system-ui, sans-serif; color-scheme: light; box-sizing: border-box;
    font-variant-numeric: tabular-nums; }
  figure.minidiff canvas { display: block; }
  figure.minidiff .bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; }
  figure.minidiff .bar > label { flex: 1 1 200px; display: flex; gap: 8px; align-items: center; }
  figure.minidiff .bar > span { min-width: 2.5em; }
  figure.minidiff input[type=range] { flex: 1; min-width: 80px; height: 28px; margin: 0;
    accent-color: #0072B2; touch-action: pan-y; }
  figure.minidiff button { font: inherit; width: 6.2em; margin: 0 8px 6px 0; cursor: pointer; }
  figure.minidiff fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap;
    gap: 10px; }
  figure.minidiff fieldset label { white-space: nowrap; }
  figure.minidiff legend { float: left; padding-right: 10px; }
  figure.minidiff p { margin: 4px 0 0; }`;

const make = (tag, properties, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};

// Runs `paint` with nothing drawn outside a rectangle.
function clipped(context, rectangle, paint) {
  context.save();
  context.beginPath();
  context.rect(...rectangle);
  context.clip();
  paint();
  context.restore();
}

const load = (url) => Object.assign(new Image(), { src: url });

// The numbers that `pack` in saved.py wrote.
function unpack({ bytes, type, scale }) {
  const raw = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const numbers = type === "float32" ? new Float32Array(raw.buffer) : new Int16Array(raw.buffer);
  return Float32Array.from(numbers, (n) => n * scale);
}

// x_t = alpha·x0 + sigma·eps
const diffuse = (x0, eps, alpha, sigma) => x0.map((x, i) => alpha * x + sigma * eps[i]);

// Python's "{name:.2f}" and "{name}".
const format = (template, numbers) =>
  template.replace(/\{(\w+)(?::\.(\d)f)?\}/g, (_, name, digits) =>
    (digits ? numbers[name].toFixed(digits) : String(numbers[name])).replace("Infinity", "inf"));

// Each renderer turns its data into { images, draw(context, state), line(state), longest }, the
// last of which is the line that needs most room.
const renderers = {
  frames(data, spec) {
    const images = data.images.map(load);
    const index = (state) => spec.controls.reduce((i, c) => c.options
      ? i * c.options.length + c.options.indexOf(state[c.name])
      : i * (Math.round((c.max - c.min) / c.stride) + 1)
        + Math.round((state[c.name] - c.min) / c.stride), 0);
    return {
      images,
      draw: (context, state) => context.drawImage(images[index(state)], 0, 0, ...spec.size),
      line: (state) => data.lines[index(state)],
      longest: data.lines.reduce((a, b) => (b.length > a.length ? b : a)),
    };
  },

  noising(data, spec) {
    const tables = {}, clean = {}, noise = {};
    for (const name in data.schedules) tables[name] = data.schedules[name].map(unpack);
    for (const name in data.clean) {
      clean[name] = unpack(data.clean[name]);
      noise[name] = unpack(data.noise[name]);
    }
    const at = ({ t, schedule }) => tables[schedule].map((table) => table[t]);
    const mixed = (name, state) => diffuse(clean[name], noise[name], ...at(state));
    const [first, second, signal, sigmas, mark] = data.colours;
    const [point, width, dot] = data.sizes;

    function disc(context, x, y, size) {
      context.beginPath();
      context.arc(x, y, size / 2, 0, 2 * Math.PI);
      context.fill();
    }

    function cloud(context, x, [left, top, w, h]) {
      clipped(context, [left, top, w, h], () => {
        context.globalAlpha = data.alpha;
        for (let i = 0; i < x.length; i += 2) {
          context.fillStyle = i < 2 * data.split ? first : second;
          disc(context, left + w * (0.5 + x[i] / data.limit / 2),
               top + h * (0.5 - x[i + 1] / data.limit / 2), point);
        }
      });
    }

    function raster(context, x, [left, top, w, h], channels) {
      const side = Math.sqrt(x.length / channels), image = new ImageData(side, side);
      for (let i = 0; i < image.data.length; i++) {
        const value = channels === 3 ? x[3 * (i >> 2) + i % 4] : -x[i >> 2]; // ink is dark
        image.data[i] = i % 4 === 3 ? 255 : 127.5 * (value + 1); // clipped by the array
      }
      const tile = make("canvas", { width: side, height: side });
      tile.getContext("2d").putImageData(image, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(tile, left, top, w, h);
      context.imageSmoothingEnabled = true;
      context.lineWidth = 1;
      context.strokeStyle = "black";
      context.strokeRect(left, top, w, h);
    }

    function curves(context, { t, schedule }, [left, top, w, h]) {
      const T = tables[schedule][0].length - 1;
      const x = (t) => left + w * t / T, y = (value) => top + h * (1 - value / 1.05);
      context.fillStyle = mark;
      context.fillRect(x(t) - 0.7, top, 1.4, h);
      tables[schedule].forEach((table, i) => {
        context.strokeStyle = context.fillStyle = [signal, sigmas][i];
        context.lineWidth = width;
        context.beginPath();
        table.forEach((value, t) => context.lineTo(x(t), y(value)));
        context.stroke();
        disc(context, x(t), y(table[t]), dot);
      });
    }

    function line(state) {
      const [alpha, sigma] = at(state), x = mixed("cloud", state), n = x.length / 2;
      const sums = [0, 0, 0, 0];
      x.forEach((v, i) => { sums[i % 2] += v / n; sums[2 + i % 2] += v * v / n; });
      const std = Math.sqrt((sums[2] + sums[3] - sums[0] ** 2 - sums[1] ** 2) / 2);
      return format(spec.readout, { ...state, alpha, sigma, alpha_bar: alpha ** 2,
        log_snr: 2 * Math.log(alpha / sigma), std });
    }

    const [schedule, [alphas]] = Object.entries(tables)[0];
    return {
      images: [],
      line,
      longest: line({ t: alphas.length - 1, schedule }),
      draw(context, state) {
        cloud(context, mixed("cloud", state), data.windows.cloud);
        raster(context, mixed("digit", state), data.windows.digit, 1);
        raster(context, mixed("photo", state), data.windows.photo, 3);
        curves(context, state, data.windows.curves);
      },
    };
  },
};

// Where a narrow page cuts the picture: spans of columns, none drawn too small to read.
function rows(spec, room) {
  const edges = [...spec.cuts, spec.size[0]], spans = [{ left: 0, right: edges[0] }];
  for (let i = 1; i < edges.length; i++) {
    const last = spans.at(-1);
    if (edges[i] - last.left <= room / 0.7) last.right = edges[i];
    else spans.push({ left: edges[i - 1], right: edges[i] });
  }
  return spans.map((s) => ({ ...s, scale: Math.min(1, room / (s.right - s.left)) }));
}

function mount(figure) {
  const spec = JSON.parse(figure.querySelector(".minidiff-payload").textContent);
  const renderer = renderers[spec.renderer](spec.data, spec);
  const background = load(spec.background);
  const state = Object.fromEntries(spec.controls.map((c) => [c.name, c.value]));
  const canvas = make("canvas", {}), line = make("p", {}), bar = make("div", { className: "bar" });
  const box = make("div", {}, bar, canvas, line);
  canvas.setAttribute("role", "img");

  function draw() {
    const room = box.clientWidth - 16, ratio = devicePixelRatio || 1, [width, height] = spec.size;
    if (room <= 0) return; // folded away
    const spans = rows(spec, room), wide = Math.min(room, width);
    const total = Math.round(spans.reduce((sum, { scale }) => sum + height * scale, 0));
    Object.assign(canvas, { width: wide * ratio, height: total * ratio });
    Object.assign(canvas.style, { width: `${wide}px`, height: `${total}px` });
    line.textContent = renderer.line(state);
    canvas.setAttribute("aria-label", `${spec.alt} Now ${line.textContent}`);
    if (![background, ...renderer.images].every((image) => image.complete)) return;
    const context = canvas.getContext("2d");
    let top = 0;
    for (const { left, right, scale } of spans) {
      const k = scale * ratio;
      context.setTransform(k, 0, 0, k, -left * k, top * ratio);
      clipped(context, [left, 0, right - left, height], () => {
        context.drawImage(background, 0, 0, width, height);
        renderer.draw(context, state);
      });
      top += height * scale;
    }
  }

  // Room for the longest line, so that nothing jumps when the line grows.
  function fit() {
    line.style.minHeight = 0;
    line.textContent = renderer.longest;
    line.style.minHeight = `${line.offsetHeight}px`;
    draw();
  }

  for (const control of spec.controls) bar.append(...controls(control, spec, state, draw));
  figure.append(make("style", { textContent: STYLE }), box);
  figure.querySelector("img").remove();
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(box);
  Promise.all([background, ...renderer.images].map((image) => image.decode())).then(draw);
  fit();
}

function controls(control, spec, state, draw) {
  if (control.options) {
    const group = `minidiff-${Math.random()}`;
    return [make("fieldset", {}, make("legend", { textContent: control.label }),
      ...control.options.map((value) => make("label", {},
        make("input", { type: "radio", name: group, checked: value === control.value,
          onchange: () => { state[control.name] = value; draw(); } }), " " + value)))];
  }
  const step = spec.renderer === "frames" ? control.stride : control.step;
  const shown = make("span", { textContent: control.value });
  const range = make("input", { type: "range", min: control.min, max: control.max, step,
    value: control.value, oninput: () => go(Number(range.value)) });
  const buttons = [player(control, -1), player(control, 1)];

  function go(value) {
    state[control.name] = value;
    range.value = value;
    shown.textContent = value;
    draw();
  }

  // Plays to the end, from the other end where it stands there already. A reader who asked for
  // less motion gets one stride a press.
  function player(control, way) {
    const { min, max, name, stride } = control;
    const [from, to, face] = way > 0 ? [min, max, "▶ Play"] : [max, min, "◀ Reverse"];
    const button = make("button", { type: "button" });
    let timer = null;
    const stop = () => {
      clearInterval(timer);
      timer = null;
      button.textContent = face;
    };
    const tick = () => {
      go(Math.min(max, Math.max(min, state[name] + way * stride)));
      if (state[name] === to || !button.isConnected) stop();
    };
    stop();
    button.onclick = () => {
      const running = timer !== null;
      buttons.forEach((other) => other.halt());
      if (running) return;
      if (state[name] === to) go(from);
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) return tick();
      timer = setInterval(tick, spec.renderer === "frames" ? 120 : 50);
      button.textContent = "❚❚ Pause";
    };
    return Object.assign(button, { halt: stop });
  }

  return [make("label", {}, control.label, range), shown,
    make("div", {}, ...buttons)];
}

// JupyterLab takes arrow keys for itself unless they're stopped before they reach it.
if (!window.minidiffKeys) {
  window.minidiffKeys = true;
  window.addEventListener("keydown", (event) => {
    const mine = event.target.closest?.("figure.minidiff");
    if (mine && /^(Arrow|Page|Home|End|Enter| )/.test(event.key)) event.stopPropagation();
  }, true);
}

for (const figure of document.querySelectorAll("figure.minidiff:has(> img)")) mount(figure);
