# Box-Cox t (Rigby & Stasinopoulos, Stat Modelling 2006) and Box-Cox power exponential (Stat Med 2004)
# distributions by direct maximisation of the likelihood, truncation included. Run here: Rscript make_tails.R
# Base R alone (gamlss is not in Debian); the version is written to versions.txt.
exact <- function(x) sprintf("%.17g", x)
t_density <- function(z, tau) dt(z, tau, log = TRUE)
pe_unit <- function(tau) sqrt(2^(-2 / tau) * gamma(1 / tau) / gamma(3 / tau))
pe_density <- function(z, tau) {
  c <- pe_unit(tau)
  log(tau) - abs(z / c)^tau / 2 - log(c) - (1 + 1 / tau) * log(2) - lgamma(1 / tau)
}
pe_share <- function(z, tau) {
  (1 + sign(z) * pgamma(abs(z / pe_unit(tau))^tau / 2, 1 / tau)) / 2
}
pe_point <- function(p, tau) {
  sign(p - 0.5) * pe_unit(tau) * (2 * qgamma(abs(2 * p - 1), 1 / tau))^(1 / tau)
}
laws <- list(
  bct = list(density = t_density, share = pt, point = qt),
  bcpe = list(density = pe_density, share = pe_share, point = pe_point)
)
z_of <- function(y, mu, sigma, nu) {
  if (abs(nu) < 1e-9) log(y / mu) / sigma else ((y / mu)^nu - 1) / (nu * sigma)
}
log_density <- function(law, y, mu, sigma, nu, tau) {
  z <- z_of(y, mu, sigma, nu)
  nu * log(y / mu) - log(y) - log(sigma) + law$density(z, tau) - log(law$share(1 / (sigma * abs(nu)), tau))
}
share <- function(law, y, mu, sigma, nu, tau) {
  z <- z_of(y, mu, sigma, nu)
  end <- 1 / (sigma * abs(nu))
  below <- if (nu > 0) law$share(-end, tau) else 0
  (law$share(z, tau) - below) / law$share(end, tau)
}
centile <- function(law, p, mu, sigma, nu, tau) {
  end <- 1 / (sigma * abs(nu))
  q <- p * law$share(end, tau) + if (nu > 0) law$share(-end, tau) else 0
  mu * (1 + sigma * nu * law$point(q, tau))^(1 / nu)
}

rows <- list()
add <- function(what, name, value) rows[[length(rows) + 1]] <<- data.frame(what, name, value = exact(value))
set.seed(20260201)
n <- 1500
age <- round(runif(n, 20, 80), 1)
x <- (age - 50) / 10
people <- data.frame(
  age = age,
  heavy = 150 * exp(-0.03 * x) * pmax(1 + 0.5 * 0.15 * exp(0.04 * x) * rt(n, 4), 0.02)^(1 / 0.5),
  light = 60 * (1 + 0.8 * 0.2 * pe_point(runif(n), 3.5))^(1 / 0.8)
)
write.csv(lapply(people, exact), "people.csv", row.names = FALSE, quote = FALSE)
P <- c(0.005, 0.025, 0.25, 0.5, 0.75, 0.975, 0.995)
for (name in names(laws)) for (column in c("heavy", "light")) {
  law <- laws[[name]]
  if (name == "bct" && column == "light") next  # its maximum is at infinite degrees of freedom
  if (name == "bcpe" && column == "heavy") next  # and this one below the power 1.25
  y <- people[[column]]
  mu <- function(b) exp(b[1] + b[2] * x)
  sigma <- function(b) exp(b[3] + b[4] * x)
  loss <- function(b) -sum(log_density(law, y, mu(b), sigma(b), b[5], exp(b[6])))
  b <- c(mean(log(y)), 0, log(sd(log(y))), 0, 0.3, log(if (name == "bct") 8 else 2))
  for (i in 1:6) b <- optim(b, loss, control = list(maxit = 5000, reltol = 1e-14))$par
  for (i in 1:3) b <- optim(b, loss, method = "BFGS", control = list(maxit = 2000, reltol = 1e-16))$par
  what <- paste(name, column)
  for (i in seq_along(b)) add(what, paste0("b", i - 1), b[i])
  add(what, "deviance", 2 * loss(b))
  for (a in c(30, 50, 70)) for (p in P) {
    at <- (a - 50) / 10
    add(what, paste("centile", a, p), centile(law, p, exp(b[1] + b[2] * at), exp(b[3] + b[4] * at), b[5], exp(b[6])))
  }
}
# Densities, shares and centiles at stated parameters.
for (name in names(laws)) for (nu in c(-1.5, 0.4, 2.5)) for (tau in c(2.5, 5, 12)) {
  law <- laws[[name]]
  for (y in c(70, 120, 150, 190, 260)) {
    what <- paste("law", name, nu, tau)
    add(what, paste("density", y), log_density(law, y, 150, 0.2, nu, tau))
    add(what, paste("share", y), share(law, y, 150, 0.2, nu, tau))
  }
  for (p in P) add(what, paste("centile", p), centile(law, p, 150, 0.2, nu, tau))
}
write.csv(do.call(rbind, rows), "tails.csv", row.names = FALSE, quote = FALSE)
writeLines(R.version.string, "versions.txt")
