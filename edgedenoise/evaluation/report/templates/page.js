"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // ---------------------------------------------------------------- colours

  const theme = document.getElementById("theme");
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (systemIsDark.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    theme.textContent = isDark() ? "Light colours" : "Dark colours";
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  systemIsDark.addEventListener("change", showTheme);
  showTheme();

  // ---------------------------------------------------------------- downloads

  for (const button of all("[data-download]")) {
    button.addEventListener("click", () => {
      const text = JSON.parse(document.getElementById(button.dataset.source).textContent);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: button.dataset.type }));
      link.download = button.dataset.download;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  // ---------------------------------------------------------------- crops

  // All viewers share the zoom and the place that is shown, so that their panes move together.
  class Viewer {
    constructor(root) {
      this.root = root;
      this.images = all(".strip img", root);
      this.stages = all(".stage", root);
      [this.split, this.difference] = all("canvas", root);
      this.dividers = all(".divider", root);
      this.tags = all(".tag", root);
      [this.first, this.second] = all("select[data-version]", root);
      this.gain = root.querySelector("select[data-gain]");
      this.caption = root.querySelector("[data-difference]");
      this.height = this.split.height;
      this.width = this.split.width;
      this.view = [this.width, this.height]; // pixels of the panes: as many as there is room for at 1:1
      this.zoom = 1;
      this.centre = [this.width / 2, this.height / 2];
      this.places = [1 / 3, 2 / 3];
      this.listen();
    }

    listen() {
      for (const select of [this.first, this.second, this.gain]) {
        select.addEventListener("change", () => this.compare());
      }
      for (const button of all("[data-zoom]", this.root)) {
        button.addEventListener("click", () => this.setZoom(Number(button.dataset.zoom)));
      }
      this.dividers.forEach((divider, number) => this.listenToDivider(divider, number));
      for (const stage of this.stages) {
        this.listenToStage(stage);
      }
    }

    listenToDivider(divider, number) {
      divider.addEventListener("pointerdown", (event) => {
        divider.setPointerCapture(event.pointerId);
        event.stopPropagation();
      });
      divider.addEventListener("pointermove", (event) => {
        if (divider.hasPointerCapture(event.pointerId)) {
          const box = this.split.getBoundingClientRect();
          this.moveDivider(number, (event.clientX - box.left) / box.width);
        }
      });
      divider.addEventListener("keydown", (event) => {
        const to = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
        if (to !== undefined) {
          event.preventDefault();
          event.stopPropagation();
          this.moveDivider(number, this.places[number] + to);
        }
      });
    }

    listenToStage(stage) {
      let last = null;
      stage.addEventListener("pointerdown", (event) => {
        stage.setPointerCapture(event.pointerId);
        last = [event.clientX, event.clientY];
      });
      stage.addEventListener("pointermove", (event) => {
        if (last !== null && stage.hasPointerCapture(event.pointerId)) {
          this.pan((last[0] - event.clientX) / this.zoom, (last[1] - event.clientY) / this.zoom);
          last = [event.clientX, event.clientY];
        }
      });
      stage.addEventListener("pointerup", () => {
        last = null;
      });
      stage.addEventListener("keydown", (event) => {
        const step = 16 / this.zoom;
        const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
        const factor = { "+": 2, "=": 2, "-": 0.5 }[event.key];
        if (move !== undefined) {
          event.preventDefault();
          this.pan(...move);
        } else if (factor !== undefined) {
          event.preventDefault();
          this.setZoom(clamp(this.zoom * factor, 1, 8));
        }
      });
    }

    async show() {
      await Promise.all(this.images.map((image) => image.decode()));
      this.fit();
      this.compare();
    }

    // A crop that is wider than its pane is shown in part, because a scaled one would not be 1:1.
    fit() {
      this.view[0] = Math.min(this.width, Math.floor(this.stages[0].parentElement.clientWidth));
      for (const canvas of [this.split, this.difference]) {
        canvas.width = this.view[0];
      }
      this.pan(0, 0);
    }

    image(select) {
      return this.images[Number(select.value)];
    }

    setZoom(zoom) {
      this.zoom = zoom;
      for (const button of all("[data-zoom]", this.root)) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.zoom) === zoom));
      }
      for (const stage of this.stages) {
        stage.style.touchAction = zoom > 1 ? "none" : "pan-y"; // at 1:1 a finger scrolls the page
      }
      this.pan(0, 0);
    }

    pan(x, y) {
      const margins = this.view.map((side) => side / (2 * this.zoom));
      this.centre[0] = clamp(this.centre[0] + x, margins[0], this.width - margins[0]);
      this.centre[1] = clamp(this.centre[1] + y, margins[1], this.height - margins[1]);
      this.draw();
    }

    // Move a divider; it takes the other one along rather than pass it.
    moveDivider(number, place) {
      const to = clamp(place, 0, 1);
      this.places = number === 0 ? [to, Math.max(to, this.places[1])] : [Math.min(to, this.places[0]), to];
      this.draw();
    }

    // Compute the difference map of the two chosen versions.
    compare() {
      const [a, b] = [this.first, this.second].map((select) => this.pixels(this.image(select)));
      const map = new ImageData(this.width, this.height);
      const gain = Number(this.gain.value);
      let largest = 0;
      let sum = 0;
      for (let at = 0; at < a.length; at += 4) {
        for (let channel = at; channel < at + 3; channel += 1) {
          const error = b[channel] - a[channel];
          largest = Math.max(largest, Math.abs(error));
          sum += error * error;
          map.data[channel] = 128 + gain * error; // clamped by the array
        }
        map.data[at + 3] = 255;
      }
      const rms = Math.sqrt(sum / ((a.length / 4) * 3));
      this.map = this.canvasOf((context) => context.putImageData(map, 0, 0));
      this.caption.textContent = `${this.second.selectedOptions[0].text} minus ${this.first.selectedOptions[0].text}, ` +
        `times ${gain}: root mean square ${rms.toFixed(2)}, largest ${largest} of 255 levels. Gray is equal.`;
      this.draw();
    }

    canvasOf(paint) {
      const canvas = document.createElement("canvas");
      canvas.width = this.width;
      canvas.height = this.height;
      paint(canvas.getContext("2d", { willReadFrequently: true }));
      return canvas;
    }

    pixels(image) {
      const canvas = this.canvasOf((context) => context.drawImage(image, 0, 0));
      return canvas.getContext("2d").getImageData(0, 0, this.width, this.height).data;
    }

    draw() {
      const edges = [0, ...this.places, 1].map((place) => Math.round(place * this.view[0]));
      const shown = [this.images[0], this.image(this.first), this.image(this.second)];
      shown.forEach((image, part) => this.paint(this.split, image, edges[part], edges[part + 1]));
      if (this.map) {
        this.paint(this.difference, this.map, 0, this.view[0]);
      }
      this.dividers.forEach((divider, number) => {
        const percent = 100 * this.places[number];
        divider.style.left = `${percent}%`;
        divider.setAttribute("aria-valuenow", String(Math.round(percent)));
      });
      const labels = ["before", this.first.selectedOptions[0].text, this.second.selectedOptions[0].text];
      this.tags.forEach((tag, part) => {
        const [from, to] = [edges[part] / this.view[0], edges[part + 1] / this.view[0]];
        tag.textContent = labels[part];
        tag.style.left = `calc(${100 * from}% + 6px)`;
        tag.style.maxWidth = `calc(${100 * (to - from)}% - 12px)`;
        tag.hidden = to - from < 0.12;
      });
    }

    // Draw the columns from..to of a canvas, at the zoom and the place that all panes share.
    paint(canvas, image, from, to) {
      if (to <= from) {
        return;
      }
      const context = canvas.getContext("2d");
      const [left, top] = this.centre.map((at, axis) => at - this.view[axis] / (2 * this.zoom));
      context.imageSmoothingEnabled = false;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, this.view[1]);
      context.clip();
      context.drawImage(image, -left * this.zoom, -top * this.zoom, this.width * this.zoom, this.height * this.zoom);
      context.restore();
    }
  }

  const crops = all(".crop");
  const tabs = all('[role="tab"]');
  const viewers = crops.map((crop) => new Viewer(crop));
  const selectTab = (chosen) => {
    tabs.forEach((tab, number) => {
      const selected = number === chosen;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
      crops[number].hidden = !selected;
    });
    viewers[chosen].show();
  };
  tabs.forEach((tab, number) => {
    tab.addEventListener("click", () => selectTab(number));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: number - 1, ArrowRight: number + 1 }[event.key];
      if (to !== undefined) {
        const chosen = (to + tabs.length) % tabs.length;
        selectTab(chosen);
        tabs[chosen].focus();
      }
    });
  });
  if (tabs.length > 0) {
    selectTab(0);
  }
  addEventListener("resize", () => viewers.forEach((viewer, number) => crops[number].hidden || viewer.fit()));
  for (const button of all("[data-strip]")) {
    const strip = document.getElementById(button.getAttribute("aria-controls"));
    strip.hidden = true;
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => {
      strip.hidden = !strip.hidden;
      button.setAttribute("aria-expanded", String(!strip.hidden));
    });
  }

  // ---------------------------------------------------------------- table of images

  const body = document.querySelector("#images tbody");
  if (body) {
    const rows = all("tr", body);
    const [search, variant, worse] = ["search", "variant", "worse"].map((id) => document.getElementById(id));
    const count = document.getElementById("count");
    const filter = () => {
      const words = search.value.toLowerCase();
      let shown = 0;
      for (const row of rows) {
        row.hidden = !(
          row.dataset.image.toLowerCase().includes(words) &&
          (variant.value === "" || row.dataset.variant === variant.value) &&
          (!worse || !worse.checked || row.dataset.worse === "yes")
        );
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown} of ${rows.length} results`;
    };
    for (const field of [search, variant, worse].filter(Boolean)) {
      field.addEventListener("input", filter);
    }
    filter();

    const value = (row, column) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim().toLowerCase();
    };
    const headers = all("#images thead th");
    headers.forEach((header, column) => {
      header.firstElementChild.addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        for (const other of headers) {
          other.setAttribute("aria-sort", "none");
        }
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
        rows.sort((a, b) => (ascending ? 1 : -1) * order(value(a, column), value(b, column)));
        body.append(...rows);
      });
    });
  }
})();
