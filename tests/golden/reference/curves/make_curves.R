# Values that the curve engines are held against. Run here: Rscript make_curves.R
# Debian's packages quantreg, VGAM, lme4, MASS, mgcv; versions are written to versions.txt.
suppressMessages({library(quantreg); library(VGAM); library(lme4); library(MASS); library(splines)})
exact <- function(x) sprintf("%.17g", x)
write_csv <- function(d, file) write.csv(d, file, row.names = FALSE, quote = FALSE)
rows <- list()
add <- function(what, name, value) rows[[length(rows) + 1]] <<-
  data.frame(what = what, name = name, value = exact(value))

# 1. Quantile regression: Engel's food data, and a B-spline of age for simulated people.
data(engel, package = "quantreg")
write_csv(data.frame(income = exact(engel$income), foodexp = exact(engel$foodexp)), "engel.csv")
check <- function(r, tau) sum(r * (tau - (r < 0)))
for (tau in c(0.025, 0.05, 0.25, 0.5, 0.75, 0.95, 0.975)) {
  fit <- rq(foodexp ~ income, tau, engel, method = "br")
  add("engel", paste0("loss_", tau), check(residuals(fit), tau))
  add("engel", paste0("intercept_", tau), coef(fit)[1])
  add("engel", paste0("income_", tau), coef(fit)[2])
  if (tau %in% c(0.05, 0.25, 0.5, 0.75)) {
    s <- summary(fit, se = "nid")$coefficients
    add("engel", paste0("se_intercept_", tau), s[1, 2]); add("engel", paste0("se_income_", tau), s[2, 2])
  }
}
set.seed(11)
n <- 3000
age <- round(runif(n, 20, 80), 1)
y <- round(150 - 0.4 * age + (12 + 0.1 * age) * rnorm(n) + 6 * rexp(n), 3)
write_csv(data.frame(age = exact(age), y = exact(y)), "quantile_people.csv")
X <- bs(age, intercept = TRUE, Boundary.knots = c(20, 80), knots = c(35, 50, 65))
for (tau in c(0.025, 0.5, 0.975)) {
  fit <- rq.fit.fnb(X, y, tau = tau, eps = 1e-10)
  br <- rq.fit(X, y, tau = tau, method = "br")
  add("bspline", paste0("loss_", tau), min(check(y - X %*% br$coefficients, tau), check(y - X %*% fit$coefficients, tau)))
}

# 2. LMS: bmi.nz with VGAM's lms.bcn, a B-spline of M, constant S and L; then a spline of S too.
data(bmi.nz, package = "VGAM")
write_csv(data.frame(age = exact(bmi.nz$age), bmi = exact(bmi.nz$BMI)), "bmi_nz.csv")
B <- bs(bmi.nz$age, df = 5)
bmi.nz$B <- B
write_csv(as.data.frame(apply(unclass(B)[, 1:5], 2, exact)), "bmi_nz_basis.csv")
for (zero in list(c("lambda", "sigma"), "lambda")) {
  name <- if (length(zero) == 2) "lms_constant" else "lms_scale"
  fit <- vglm(BMI ~ B, lms.bcn(zero = zero), data = bmi.nz, epsilon = 1e-12, maxit = 200)
  eta <- predict(fit)
  # VGAM stops at half-steps before the maximum: go on from its answer by BFGS on the same law.
  free <- if (length(zero) == 2) 1 else 6
  law <- function(par) {
    L <- par[1]; M <- drop(cbind(1, B) %*% par[2:7])
    list(L = L, M = M, S = exp(if (free == 1) par[8] else drop(cbind(1, B) %*% par[8:13])))
  }
  minus2 <- function(par) with(law(par), {
    z <- ((bmi.nz$BMI / M)^L - 1) / (L * S)
    -2 * sum(L * log(bmi.nz$BMI / M) - log(bmi.nz$BMI) - log(S) - z^2 / 2 - log(2 * pi) / 2)
  })
  M0 <- coef(lm(eta[, 2] ~ B)); S0 <- coef(lm(eta[, 3] ~ B))
  par <- c(eta[1, 1], M0, if (free == 1) eta[1, 3] else S0)
  for (again in 1:20) par <- optim(par, minus2, method = "BFGS", control = list(reltol = 1e-15, maxit = 2000, parscale = pmax(abs(par), 0.01)))$par
  add(name, "vgam_deviance", minus2(c(eta[1, 1], M0, if (free == 1) eta[1, 3] else S0)))
  found <- law(par)
  L <- rep(found$L, nrow(bmi.nz)); M <- found$M; S <- found$S
  if (length(S) == 1) S <- rep(S, nrow(bmi.nz))
  z <- ((bmi.nz$BMI / M)^L - 1) / (L * S)
  add(name, "deviance", -2 * sum(L * log(bmi.nz$BMI / M) - log(bmi.nz$BMI) - log(S) - z^2 / 2 - log(2 * pi) / 2))
  add(name, "l", L[1])
  at <- order(bmi.nz$age)[seq(20, 680, by = 60)]
  for (p in c(0.025, 0.5, 0.975)) for (i in at)
    add(name, paste0("centile_", p, "_row_", i), (M * (1 + L * S * qnorm(p))^(1 / L))[i])
}

# 3. Random-intercept REML: lme4, people of eight trials, linear age and two groups.
set.seed(7)
k <- 8
sizes <- c(40, 60, 25, 90, 120, 33, 75, 10)
trial <- rep(1:k, sizes)
age <- round(runif(sum(sizes), 20, 80), 2)
group <- rbinom(sum(sizes), 1, 0.3)
value <- round(150 - 0.5 * age - 6 * group + rnorm(k, 0, 7)[trial] + rnorm(sum(sizes), 0, 16), 3)
write_csv(data.frame(trial, age = exact(age), group, value = exact(value)), "mixed_people.csv")
mixed <- function(name, formula, d) {
  fit <- lmer(formula, d, REML = TRUE,
              control = lmerControl(optCtrl = list(xtol_abs = 1e-13, ftol_abs = 1e-15, xtol_rel = 1e-15, maxeval = 1e5)))
  add(name, "sigma2", sigma(fit)^2); add(name, "tau2", as.numeric(VarCorr(fit)$trial))
  b <- fixef(fit); se <- sqrt(diag(as.matrix(vcov(fit))))
  for (i in seq_along(b)) { add(name, paste0("b", i - 1), b[i]); add(name, paste0("se", i - 1), se[i]) }
}
d <- data.frame(trial = factor(trial), age, group, value)
mixed("mixed", value ~ age + group + (1 | trial), d)
d$w <- rep(c(1, 2, 0.5, 1.5), length.out = nrow(d))
fitw <- lmer(value ~ age + group + (1 | trial), d, weights = w, REML = TRUE,
             control = lmerControl(optCtrl = list(xtol_abs = 1e-13, ftol_abs = 1e-15, xtol_rel = 1e-15, maxeval = 1e5)))
add("weighted", "sigma2", sigma(fitw)^2); add("weighted", "tau2", as.numeric(VarCorr(fitw)$trial))
for (i in 0:2) add("weighted", paste0("b", i), fixef(fitw)[i + 1])
# A difference of trials that is not there: the estimate is 0.
flat <- d; flat$value <- 100 - 0.2 * age + rep(c(-3, 3), length.out = nrow(d)); mixed_zero <- lm(value ~ age, flat)
write_csv(data.frame(trial, age = exact(age), value = exact(flat$value)), "mixed_zero.csv")
add("zero", "sigma2", summary(mixed_zero)$sigma^2)

# 4. Normal law with a smooth mean and a smooth log SD: mgcv's gaulss, P-splines and REML.
set.seed(5)
n <- 2500
age <- round(runif(n, 20, 80), 1)
y <- round(100 + 8 * sin(age / 12) + exp(1.8 + 0.012 * (age - 50)) * rnorm(n), 4)
write_csv(data.frame(age = exact(age), y = exact(y)), "gaulss_people.csv")
g <- mgcv::gam(list(y ~ s(age, bs = "ps", k = 20, m = c(2, 2)), ~ s(age, bs = "ps", k = 20, m = c(2, 2))),
               family = mgcv::gaulss(b = 0), method = "REML")
at <- seq(25, 75, by = 5)
p <- predict(g, data.frame(age = at), type = "link", se.fit = TRUE)
for (i in seq_along(at)) {
  sd <- exp(p$fit[i, 2])
  if (i == 1) stopifnot(abs(1 / predict(g, data.frame(age = at), type = "response")[1, 2] - sd) < 1e-8)
  add("gaulss", paste0("mean_", at[i]), p$fit[i, 1]); add("gaulss", paste0("sd_", at[i]), sd)
  add("gaulss", paste0("se_mean_", at[i]), p$se.fit[i, 1]); add("gaulss", paste0("se_log_sd_", at[i]), p$se.fit[i, 2])
}

# 5. Box-Cox by profile likelihood: MASS, on samples.csv of the folder above.
samples <- read.csv("../samples.csv")
for (s in unique(samples$sample)) {
  x <- samples$value[samples$sample == s]
  profile <- function(l) boxcox(x ~ 1, lambda = l, plotit = FALSE)$y
  best <- optimize(profile, c(-4, 6), maximum = TRUE, tol = 1e-10)
  add("boxcox", s, best$maximum)
  for (l in c(-1, 0, 0.5, 2)) add("boxcox_profile", paste0(s, "_", l), profile(l) - best$objective)
}

# 6. Fractional polynomials: every FP1 and FP2 of the mean by lm; deviances and the best powers.
set.seed(9)
n <- 600
age <- round(runif(n, 20, 80), 1)
y <- round(80 + 30 * log(age) - 0.9 * age + rnorm(n, 0, 8), 3)
write_csv(data.frame(age = exact(age), y = exact(y)), "fp_people.csv")
powers <- c(-2, -1, -0.5, 0, 0.5, 1, 2, 3)
x <- age / 50
term <- function(p) if (p == 0) log(x) else x^p
dev <- function(m) -2 * as.numeric(logLik(m))
add("fp", "linear", dev(lm(y ~ x))); add("fp", "null", dev(lm(y ~ 1)))
for (p in powers) add("fp", paste0("fp1_", p), dev(lm(y ~ term(p))))
for (i in seq_along(powers)) for (j in i:length(powers)) {
  a <- term(powers[i]); b <- if (i == j) a * log(x) else term(powers[j])
  add("fp", paste0("fp2_", powers[i], "_", powers[j]), dev(lm(y ~ a + b)))
}
write_csv(do.call(rbind, rows), "curves.csv")
writeLines(c(R.version.string, sapply(c("quantreg", "VGAM", "lme4", "MASS", "mgcv"), function(p) paste(p, packageVersion(p)))), "versions.txt")
