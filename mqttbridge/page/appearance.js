// Light or dark: as the system says, unless somebody chose.

const KEY = "mqttbridge-theme";

export function startTheme() {
  const select = document.getElementById("theme");
  select.value = localStorage.getItem(KEY) ?? "";
  const apply = () => {
    if (select.value) document.documentElement.dataset.theme = select.value;
    else delete document.documentElement.dataset.theme;
  };
  select.addEventListener("change", () => {
    localStorage.setItem(KEY, select.value);
    apply();
  });
  apply();
}
