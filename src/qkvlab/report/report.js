// Choose the language: what this reader chose before, else what the report was made in, else the browser's.
(() => {
  const root = document.documentElement;
  const key = "qkvlab-report-language-" + root.dataset.study;
  const remembered = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (lang) => { try { localStorage.setItem(key, lang); } catch { /* a browser that keeps nothing */ } };
  const show = (lang) => {
    document.getElementById("show-" + lang).checked = true;
    root.lang = lang;
    document.title = root.dataset[lang === "zh" ? "titleZh" : "titleEn"];
  };
  const browser = (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  const start = [remembered(), root.dataset.start, browser].find((lang) => lang === "zh" || lang === "en");
  show(start);
  for (const lang of ["zh", "en"]) {
    document.getElementById("show-" + lang).addEventListener("change", () => { show(lang); remember(lang); });
  }
  // what is folded on the screen is open on paper
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((each) => { each.open = false; }));
})();
